-- purpose: Refuse an API key from now on; the time of the first revocation stays.
-- $1 id uuid: key's id
UPDATE api_keys SET revoked_at = coalesce(revoked_at, now())
WHERE id = $1
RETURNING id, name, prefix, scopes, created_at, created_by, last_used_at, revoked_at
