-- purpose: The answer that was stored for a caller's key, if it is still kept.
-- $1 principal text: caller
-- $2 key text: Idempotency-Key
-- $3 kept_s double precision: seconds for which answers are kept
SELECT request_hash, status, body
FROM idempotency_keys
WHERE principal = $1 AND key = $2 AND created_at > now() - make_interval(secs => $3)
