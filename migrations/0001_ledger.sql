-- The ledger: every accepted job is a row here before its caller hears 202 (docs/architecture.md).

-- Who this ledger is: part of every Redis key, so that two ledgers may share one Redis and never see each other's jobs.
CREATE TABLE ledger (
  id          uuid NOT NULL DEFAULT gen_random_uuid(),
  created_at  timestamptz NOT NULL DEFAULT now()
);
INSERT INTO ledger DEFAULT VALUES;

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

-- How many of `want` jobs may start now, and in how many seconds to ask again when fewer may. With a limit (`rate_max` not
-- NULL) it locks the queue's row until the end of the transaction: read the window, claim, `spend` are one step.
CREATE FUNCTION open_gate(queue_name text, want integer, rate_max integer, window_ms integer,
                          OUT permits integer, OUT wait_s double precision, OUT paused boolean)
LANGUAGE plpgsql AS $$
DECLARE
  q queues%ROWTYPE;
  at_time timestamptz;
  opened_at timestamptz;
  used integer;
  oldest timestamptz;
BEGIN
  IF rate_max IS NULL THEN
    SELECT * INTO q FROM queues WHERE name = queue_name;
  ELSE
    SELECT * INTO q FROM queues WHERE name = queue_name FOR UPDATE;
  END IF;
  at_time := clock_timestamp();  -- after the lock was granted
  paused := q.paused_at IS NOT NULL AND (q.paused_until IS NULL OR q.paused_until > at_time);
  IF paused THEN
    permits := 0;
    wait_s := extract(epoch FROM q.paused_until - at_time);
    RETURN;
  END IF;
  permits := want;
  IF rate_max IS NOT NULL THEN
    opened_at := at_time - window_ms * interval '1 millisecond';
    SELECT coalesce(sum(s.n), 0), min(s.at) INTO used, oldest
    FROM unnest(q.start_times, q.start_counts) AS s(at, n)
    WHERE s.at >= opened_at AND s.at <= at_time + interval '1 second';  -- later ones: the clock was set back
    permits := greatest(0, least(want, rate_max - used));
    IF used + permits >= rate_max THEN
      wait_s := extract(epoch FROM coalesce(oldest, at_time) - opened_at);
    END IF;
  END IF;
END $$;

-- Remember that `n` jobs started now, and forget the starts that left the window.
CREATE FUNCTION spend(queue_name text, n bigint, window_ms integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF n > 0 AND window_ms IS NOT NULL THEN
    UPDATE queues q SET
      start_times = kept.times || clock_timestamp(),
      start_counts = kept.counts || n::integer
    FROM (
      SELECT coalesce(array_agg(s.at ORDER BY s.at), '{}') AS times, coalesce(array_agg(s.n ORDER BY s.at), '{}') AS counts
      FROM queues w, unnest(w.start_times, w.start_counts) AS s(at, n)
      WHERE w.name = queue_name AND s.at >= clock_timestamp() - window_ms * interval '1 millisecond'
        AND s.at <= clock_timestamp() + interval '1 second'
    ) kept
    WHERE q.name = queue_name;
  END IF;
END $$;

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
  dedupe_key    text,
  cancel_reason text,                                  -- somebody wants it ended while it runs; its holder heeds it
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

-- Who had a key lately, open or not; only jobs that have one are in it.
CREATE INDEX jobs_keys ON jobs (queue, dedupe_key, seq) WHERE dedupe_key IS NOT NULL;

-- Counts by queue and state, exact and O(1) to read: each statement that moves jobs adds its differences, the elected
-- leader folds them (docs/decisions/0003-counted-states.md).
CREATE TABLE job_counts (
  queue text NOT NULL,
  state text NOT NULL,
  n     bigint NOT NULL
);

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
