-- purpose: how long jobs of a queue take, in seconds: the mean of the newest completed ones and of those that run, so far (NULL: none)
-- $1 queue text: its name
-- $2 sample bigint: completed jobs to look at
SELECT avg(extract(epoch FROM ended - claimed_at))::double precision FROM (
  (SELECT claimed_at, finished_at AS ended FROM jobs WHERE queue = $1 AND state = 'completed' ORDER BY finished_at DESC, id LIMIT $2)
  UNION ALL
  (SELECT claimed_at, now() FROM jobs WHERE queue = $1 AND state = 'active' LIMIT $2)
) AS newest
