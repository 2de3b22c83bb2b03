-- What GitHub answered, shared by the replicas (O36): a page is asked for again when it is older than its kind's age, with
-- its ETag, and "not modified" costs nothing. The body is not GitHub's but the few fields that we read of it.

CREATE TABLE github_pages (
  key         bytea PRIMARY KEY,                         -- SHA-256 of the API, the token and the request
  repository  text NOT NULL,
  kind        text NOT NULL,
  etag        text,
  next        text,                                      -- the request for the page after it
  body        bytea NOT NULL,                            -- JSON
  bytes       integer NOT NULL,
  fetched_at  timestamptz NOT NULL                       -- when GitHub last said that this is how it stands
);
CREATE INDEX github_pages_by_age ON github_pages (fetched_at DESC, key);

-- Until when a token's calls rest, in every replica: its limit is used up, or GitHub asked for a pause.
CREATE TABLE github_lanes (
  lane         text PRIMARY KEY,
  rests_until  timestamptz NOT NULL,
  reason       text NOT NULL
);

-- The latest analysis of a project for each length of period that was asked for.
CREATE TABLE analyses (
  project_id    uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
  period_hours  integer NOT NULL,
  repository    text NOT NULL,
  run_id        uuid,
  analysis      jsonb NOT NULL,
  analysed_at   timestamptz NOT NULL,
  PRIMARY KEY (project_id, period_hours)
);
