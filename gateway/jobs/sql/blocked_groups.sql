-- purpose: groups of a queue that have blocked jobs, in order of their keys; one index look-up for each, whatever they hold
-- $1 queue text: its name
-- $2 after text: only keys after this one; '' = from the first
-- $3 limit integer: how many
WITH RECURSIVE found AS (
  (SELECT group_key, 1 AS n FROM jobs
   WHERE queue = $1 AND state = 'waiting' AND blocked AND group_key > $2 ORDER BY group_key LIMIT 1)
  UNION ALL
  SELECT next.group_key, found.n + 1 FROM found CROSS JOIN LATERAL (
    SELECT group_key FROM jobs
    WHERE queue = $1 AND state = 'waiting' AND blocked AND group_key > found.group_key ORDER BY group_key LIMIT 1
  ) next
  WHERE found.n < $3
)
SELECT group_key FROM found
