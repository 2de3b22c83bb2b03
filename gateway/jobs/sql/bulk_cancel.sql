-- purpose: a chunk of jobs is cancelled; a running one is told to end
-- $1 operation uuid: its id
-- $2 after uuid: how far it had come; when it has come further meanwhile, nothing happens
-- $3 next uuid: how far it has come then; NULL = to the end
-- $4 queue text: whose jobs
-- $5 ids uuid[]: the chunk
-- $6 reason text: why, for people
WITH operation AS MATERIALIZED (
  SELECT id FROM operations WHERE id = $1 AND state = 'running' AND position IS NOT DISTINCT FROM $2::uuid FOR UPDATE
), moved AS (
  UPDATE jobs SET
    state = CASE WHEN state = 'active' THEN state ELSE 'cancelled' END,
    error = CASE WHEN state = 'active' THEN error ELSE $6 END,
    finished_at = CASE WHEN state = 'active' THEN finished_at ELSE now() END,
    cancel_reason = CASE WHEN state = 'active' THEN $6 ELSE cancel_reason END
  WHERE id = ANY ($5::uuid[]) AND queue = $4 AND EXISTS (SELECT FROM operation)
    AND state || '' IN ('waiting', 'delayed', 'active')
  RETURNING id, queue, state, priority, seq, group_key
), progress AS (
  UPDATE operations SET
    done = done + (SELECT count(*) FROM moved),
    failed = failed + cardinality($5::uuid[]) - (SELECT count(*) FROM moved),
    position = coalesce($3::uuid, position),
    state = CASE WHEN $3 IS NULL THEN 'completed' ELSE state END,
    finished_at = CASE WHEN $3 IS NULL THEN now() END,
    updated_at = clock_timestamp()
  WHERE id IN (SELECT id FROM operation)
)
SELECT id, queue, state, priority, seq, group_key FROM moved
