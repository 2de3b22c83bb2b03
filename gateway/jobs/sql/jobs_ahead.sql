-- purpose: how many waiting jobs of its queue start before this one, counted up to a bound; reads no more than that
-- $1 id uuid: the job
-- $2 most bigint: the bound
WITH me AS MATERIALIZED (SELECT queue, priority, seq FROM jobs WHERE id = $1)
SELECT least($2, count(*)) FROM (
  (SELECT 1 FROM jobs
   WHERE queue = (SELECT queue FROM me) AND state = 'waiting' AND NOT blocked AND priority > (SELECT priority FROM me)
   ORDER BY priority DESC, seq LIMIT $2)
  UNION ALL
  (SELECT 1 FROM jobs
   WHERE queue = (SELECT queue FROM me) AND state = 'waiting' AND NOT blocked AND priority = (SELECT priority FROM me)
     AND seq < (SELECT seq FROM me)
   ORDER BY priority DESC, seq LIMIT $2)
) AS ahead
