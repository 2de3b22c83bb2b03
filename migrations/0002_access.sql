-- Who may call, and what was answered to a call that may be repeated.

CREATE TABLE api_keys (
  id            uuid PRIMARY KEY,
  name          text NOT NULL,
  prefix        text NOT NULL,              -- first characters, to recognise a key by
  key_sha256    bytea NOT NULL UNIQUE,      -- keys are 256 random bits: a plain hash is enough, nothing to guess
  scopes        text[] NOT NULL,
  created_at    timestamptz NOT NULL DEFAULT now(),
  created_by    text NOT NULL,
  last_used_at  timestamptz,
  revoked_at    timestamptz
);

-- Answers kept 24 h by (caller, route, Idempotency-Key). Written in the transaction that does the work, so a key and its
-- work are committed together or not at all.
CREATE TABLE idempotency_keys (
  principal     text NOT NULL,
  key           text NOT NULL,
  request_hash  bytea NOT NULL,
  status        smallint NOT NULL,
  body          bytea NOT NULL,
  created_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (principal, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);

CREATE TABLE admin_audit (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at          timestamptz NOT NULL DEFAULT now(),
  actor       text NOT NULL,
  action      text NOT NULL,                -- 'queue.pause', 'job.retry', ...
  subject     text NOT NULL,                -- queue name, job id, ...
  detail      jsonb NOT NULL DEFAULT '{}',
  request_id  text
);
