-- purpose: a chunk of failed jobs waits again; of one dedupe key only the newest, and only if it is free
-- $1 operation uuid: its id
-- $2 after uuid: how far it had come; when it has come further meanwhile, nothing happens
-- $3 next uuid: how far it has come then; NULL = to the end
-- $4 queue text: whose jobs
-- $5 ids uuid[]: the chunk
-- $6 refused bigint: jobs of it that were found impossible before
WITH operation AS MATERIALIZED (
  SELECT id FROM operations WHERE id = $1 AND state = 'running' AND position IS NOT DISTINCT FROM $2::uuid FOR UPDATE
), picked AS MATERIALIZED (
  SELECT f.id FROM jobs f
  WHERE f.id = ANY ($5::uuid[]) AND f.queue = $4 AND f.state || '' = 'failed' AND EXISTS (SELECT FROM operation)
    AND NOT EXISTS (
      SELECT FROM jobs o
      WHERE o.queue = f.queue AND o.dedupe_key = f.dedupe_key
        AND (o.state IN ('waiting', 'delayed', 'active')
          OR (o.id = ANY ($5::uuid[]) AND o.state = 'failed' AND o.seq > f.seq)))
  FOR UPDATE SKIP LOCKED
), moved AS (
  UPDATE jobs SET state = 'waiting', attempts = 0, stalls = 0, run_at = now(), finished_at = NULL, cancel_reason = NULL
  WHERE id = ANY (ARRAY(SELECT id FROM picked))
  RETURNING id, queue, state, priority, seq, group_key
), progress AS (
  UPDATE operations SET
    done = done + (SELECT count(*) FROM moved),
    failed = failed + $6::bigint + cardinality($5::uuid[]) - (SELECT count(*) FROM moved),
    position = coalesce($3::uuid, position),
    state = CASE WHEN $3 IS NULL THEN 'completed' ELSE state END,
    finished_at = CASE WHEN $3 IS NULL THEN now() END,
    updated_at = clock_timestamp()
  WHERE id IN (SELECT id FROM operation)
)
SELECT id, queue, state, priority, seq, group_key FROM moved
