-- purpose: delayed jobs that are due become waiting
-- $1 limit bigint: at most so many in one statement
WITH due AS MATERIALIZED (
  SELECT id FROM jobs WHERE state = 'delayed' AND run_at <= now() ORDER BY run_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE jobs SET state = 'waiting' WHERE id = ANY (ARRAY(SELECT id FROM due))
RETURNING id, queue, state, priority, seq, group_key
