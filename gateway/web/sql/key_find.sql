-- purpose: The API key that a request came with.
-- $1 key_sha256 bytea: hash of the key
SELECT id, scopes, revoked_at IS NOT NULL AS revoked,
       coalesce(last_used_at > now() - interval '1 minute', false) AS used_lately
FROM api_keys
WHERE key_sha256 = $1
