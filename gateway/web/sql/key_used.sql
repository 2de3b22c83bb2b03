-- purpose: Record that an API key was used, once a minute at most.
-- $1 id uuid: key's id
UPDATE api_keys SET last_used_at = now()
WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= now() - interval '1 minute')
