-- purpose: delete finished jobs of one queue and state that are older than their retention
-- $1 queue text: its name
-- $2 state text: completed, failed or cancelled
-- $3 keep_s double precision: seconds
-- $4 limit bigint: at most so many in one statement
WITH old AS MATERIALIZED (
  SELECT id FROM jobs
  WHERE queue = $1 AND state = $2 AND state IN ('completed', 'failed', 'cancelled')
    AND finished_at < now() - $3 * interval '1 second'
  ORDER BY finished_at LIMIT $4 FOR UPDATE SKIP LOCKED
)
DELETE FROM jobs WHERE id = ANY (ARRAY(SELECT id FROM old))
RETURNING id
