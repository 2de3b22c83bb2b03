-- purpose: Delete up to $2 answers that are no longer kept. Repeat until it deletes fewer.
-- $1 kept_s double precision: seconds for which answers are kept
-- $2 limit int: most rows to delete
WITH expired AS (
  SELECT principal, key FROM idempotency_keys
  WHERE created_at <= now() - make_interval(secs => $1)
  ORDER BY created_at
  LIMIT $2
  FOR UPDATE SKIP LOCKED
)
DELETE FROM idempotency_keys k USING expired e WHERE k.principal = e.principal AND k.key = e.key
