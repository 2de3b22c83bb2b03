-- purpose: Store a one-time code by its hash; those that are of no use since a day go.
-- $1 id uuid: login's id
-- $2 code_sha256 bytea: hash of the code
-- $3 subject text: who will be signed in
-- $4 role text: what they may do
-- $5 created_by text: who made it
-- $6 valid_s float8: seconds for which the code is good
WITH gone AS (
  DELETE FROM logins WHERE greatest(expires_at, session_until) < now() - interval '1 day'
)
INSERT INTO logins (id, code_sha256, subject, role, created_by, expires_at)
VALUES ($1, $2, $3, $4, $5, now() + make_interval(secs => $6))
RETURNING id, subject, role, created_at, created_by, expires_at
