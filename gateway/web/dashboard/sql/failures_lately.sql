-- purpose: the newest failures of each queue, with the first words of their errors
-- $1 queues text[]: their names
-- $2 within_s double precision: how far back, seconds
-- $3 limit bigint: of each queue
SELECT found.id, found.queue, found.error, found.at
FROM unnest($1::text[]) AS asked(name)
CROSS JOIN LATERAL (
  SELECT id, queue, left(coalesce(error, ''), 300) AS error, finished_at AS at
  FROM jobs
  WHERE queue = asked.name AND state = 'failed' AND finished_at > now() - $2 * interval '1 second'
  ORDER BY finished_at DESC, id LIMIT $3
) AS found
