-- The ledger: every accepted job is a row here before its caller hears 202 (docs/architecture.md).

CREATE TABLE queues (
  name              text PRIMARY KEY,
  paused_at         timestamptz,
  paused_until      timestamptz,            -- NULL while paused: until somebody resumes
  pause_reason      text,
  -- The rate limiter's window: when jobs of this queue were claimed, and how many at that moment. The row's lock makes
  -- it hold over all replicas, with Redis and without (docs/decisions/0002-limiter-in-the-ledger.md).
  start_times       timestamptz[] NOT NULL DEFAULT '{}',
  start_counts      integer[] NOT NULL DEFAULT '{}',
  updated_at        timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE jobs (
  id            uuid PRIMARY KEY,
  seq           bigint GENERATED ALWAYS AS IDENTITY,   -- order of arrival
  queue         text NOT NULL,
  task          text NOT NULL,
  state         text NOT NULL,
  priority      smallint NOT NULL DEFAULT 0,           -- 0..10, higher first
  args          jsonb NOT NULL,
  attempts      integer NOT NULL DEFAULT 0,            -- started and not handed back: only real failures stay counted
  max_attempts  integer NOT NULL,
  stalls        integer NOT NULL DEFAULT 0,            -- how often a holder vanished
  fence         bigint NOT NULL DEFAULT 0,             -- grows with every claim; only its bearer may settle
  worker        text,
  lease_until   timestamptz,
  run_at        timestamptz NOT NULL DEFAULT now(),    -- not before; waiting jobs are ready since then
  created_at    timestamptz NOT NULL DEFAULT now(),
  claimed_at    timestamptz,
  finished_at   timestamptz,
  result        jsonb,
  error         text,                                  -- of the last attempt that failed
  errors        jsonb NOT NULL DEFAULT '[]',           -- one entry for each attempt that did not complete
  progress      jsonb,
  dedupe_key    text,
  CONSTRAINT jobs_state_known CHECK (state IN ('waiting', 'delayed', 'active', 'completed', 'failed', 'cancelled')),
  CONSTRAINT jobs_priority_range CHECK (priority BETWEEN 0 AND 10)
) WITH (
  fillfactor = 80,
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_analyze_scale_factor = 0.05
);

-- Partial indexes: a state change writes only the index of the state that it enters.
CREATE INDEX jobs_waiting ON jobs (queue, priority DESC, seq) WHERE state = 'waiting';
CREATE INDEX jobs_delayed ON jobs (run_at) WHERE state = 'delayed';
CREATE INDEX jobs_active ON jobs (queue) WHERE state = 'active';
CREATE INDEX jobs_final ON jobs (queue, state, finished_at DESC, id) WHERE state IN ('completed', 'failed', 'cancelled');
CREATE UNIQUE INDEX jobs_dedupe ON jobs (queue, dedupe_key)
  WHERE dedupe_key IS NOT NULL AND state IN ('waiting', 'delayed', 'active');

-- Counts by queue and state, exact and O(1) to read: each statement that moves jobs adds its differences, the elected
-- leader folds them (docs/decisions/0003-counted-states.md).
CREATE TABLE job_counts (
  queue text NOT NULL,
  state text NOT NULL,
  n     bigint NOT NULL
);
CREATE INDEX job_counts_key ON job_counts (queue, state);

CREATE FUNCTION count_inserted_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO job_counts SELECT queue, state, count(*) FROM new_rows GROUP BY 1, 2;
  RETURN NULL;
END $$;

CREATE FUNCTION count_updated_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO job_counts
  SELECT queue, state, sum(n)
  FROM (SELECT queue, state, 1 AS n FROM new_rows UNION ALL SELECT queue, state, -1 FROM old_rows) d
  GROUP BY 1, 2 HAVING sum(n) <> 0;
  RETURN NULL;
END $$;

CREATE FUNCTION count_deleted_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO job_counts SELECT queue, state, -count(*) FROM old_rows GROUP BY 1, 2;
  RETURN NULL;
END $$;

CREATE FUNCTION count_truncated_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM job_counts;
  RETURN NULL;
END $$;

CREATE TRIGGER jobs_count_insert AFTER INSERT ON jobs
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_inserted_jobs();
CREATE TRIGGER jobs_count_update AFTER UPDATE ON jobs
  REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_updated_jobs();
CREATE TRIGGER jobs_count_delete AFTER DELETE ON jobs
  REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION count_deleted_jobs();
CREATE TRIGGER jobs_count_truncate AFTER TRUNCATE ON jobs
  FOR EACH STATEMENT EXECUTE FUNCTION count_truncated_jobs();

-- Who is alive, in which role, with how many slots. Written every few seconds by each replica.
CREATE TABLE replicas (
  id          text PRIMARY KEY,
  role        text NOT NULL,
  version     text NOT NULL,
  host        text NOT NULL,
  pid         integer NOT NULL,
  mode        text NOT NULL,                -- 'queue' or 'direct'
  slots       jsonb NOT NULL,               -- {"email-queue": {"slots": 5, "busy": 2}}
  draining    boolean NOT NULL DEFAULT false,
  started_at  timestamptz NOT NULL DEFAULT now(),
  seen_at     timestamptz NOT NULL DEFAULT now()
);

-- One holder per name, by lease and ledger time: a stopped or partitioned leader loses it by itself.
CREATE TABLE leases (
  name    text PRIMARY KEY,
  holder  text NOT NULL,
  until   timestamptz NOT NULL
);
