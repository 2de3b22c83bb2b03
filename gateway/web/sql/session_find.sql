-- purpose: Whose session a request came with, while it lasts.
-- $1 session_sha256 bytea: hash of the session's token
SELECT subject, role, session_until
FROM logins
WHERE session_sha256 = $1 AND session_until > now()
