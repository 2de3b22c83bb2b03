-- purpose: Keep the answer to a caller's key, in the transaction that did the work. Replaces an answer that expired.
-- $1 principal text: caller
-- $2 key text: Idempotency-Key
-- $3 request_hash bytea: hash of method, path and body
-- $4 status smallint: HTTP status
-- $5 body bytea: JSON of the answer
INSERT INTO idempotency_keys (principal, key, request_hash, status, body)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (principal, key) DO UPDATE SET
  request_hash = excluded.request_hash,
  status = excluded.status,
  body = excluded.body,
  created_at = now()
