-- purpose: age in seconds of the job that has been ready longest (NULL: none waits); one index look-up per priority
-- $1 queue text: its name
SELECT extract(epoch FROM now() - min(head.run_at))::double precision
FROM generate_series(0, 10) AS level(priority)
CROSS JOIN LATERAL (
  SELECT run_at FROM jobs WHERE queue = $1 AND state = 'waiting' AND NOT blocked AND priority = level.priority::smallint ORDER BY seq LIMIT 1
) AS head
