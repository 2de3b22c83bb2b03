-- purpose: All API keys, newest first.
SELECT id, name, prefix, scopes, created_at, created_by, last_used_at, revoked_at
FROM api_keys
ORDER BY created_at DESC, id
