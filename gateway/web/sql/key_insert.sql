-- purpose: Store a new API key by its hash.
-- $1 id uuid: key's id
-- $2 name text: what people call it
-- $3 prefix text: first characters of the key, to recognise it by
-- $4 key_sha256 bytea: hash of the whole key
-- $5 scopes text[]: what it may do
-- $6 created_by text: who made it
INSERT INTO api_keys (id, name, prefix, key_sha256, scopes, created_by)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING id, name, prefix, scopes, created_at, created_by, last_used_at, revoked_at
