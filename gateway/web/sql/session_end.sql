-- purpose: End a session now.
-- $1 session_sha256 bytea: hash of the session's token
UPDATE logins SET session_until = now()
WHERE session_sha256 = $1 AND session_until > now()
