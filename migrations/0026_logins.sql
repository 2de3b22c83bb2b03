-- One-time codes with which people sign in to the dashboard, and the sessions that began with them.
CREATE TABLE logins (
  id              uuid PRIMARY KEY,
  code_sha256     bytea NOT NULL UNIQUE,    -- 60 random bits, good for minutes: nothing to guess from its hash in time
  subject         text NOT NULL,
  role            text NOT NULL,
  created_at      timestamptz NOT NULL DEFAULT now(),
  created_by      text NOT NULL,
  expires_at      timestamptz NOT NULL,     -- of the code
  session_sha256  bytea UNIQUE,             -- NULL: the code was not used
  session_until   timestamptz
);
