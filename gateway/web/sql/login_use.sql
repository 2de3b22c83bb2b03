-- purpose: Begin the session of a one-time code; no row: it is unknown, was used, or is too old.
-- $1 code_sha256 bytea: hash of the code
-- $2 session_sha256 bytea: hash of the session's token
-- $3 session_s float8: seconds that the session lasts
UPDATE logins SET session_sha256 = $2, session_until = now() + make_interval(secs => $3)
WHERE code_sha256 = $1 AND session_sha256 IS NULL AND expires_at > now()
RETURNING id, subject, role, created_by
