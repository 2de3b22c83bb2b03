-- Repeatable jobs: each row says when a task is due again and what becomes of ticks that nobody saw. Python computes the
-- ticks; next_at is compared and set by the statement that inserts their jobs, so each tick has one job over all replicas.
CREATE TABLE schedules (
  name             text PRIMARY KEY,
  queue            text NOT NULL,
  task             text NOT NULL,
  args             jsonb NOT NULL,
  tick_arg         text,                     -- the argument's field that gets the tick's time
  priority         smallint NOT NULL DEFAULT 0,
  cron             text,
  time_zone        text NOT NULL DEFAULT 'UTC',
  every_s          integer,
  start_at         timestamptz,              -- no tick before
  end_at           timestamptz,              -- no tick after
  missed           text NOT NULL,
  missed_max       integer NOT NULL,
  overlap          text NOT NULL,            -- while the job of the tick before is open
  enabled          boolean NOT NULL DEFAULT true,
  disabled_reason  text,
  anchor_at        timestamptz NOT NULL,     -- intervals are counted from here
  next_at          timestamptz,              -- NULL: there is no tick any more
  last_tick_at     timestamptz,              -- the last one that got a job
  last_job_id      uuid,
  skipped_at       timestamptz,              -- when ticks got no job of their own for the last time
  skip_reason      text,
  revision         bigint NOT NULL DEFAULT 1,  -- grows with every change by people or code, not with ticks
  created_at       timestamptz NOT NULL DEFAULT now(),
  updated_at       timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT schedules_one_timing CHECK ((cron IS NULL) <> (every_s IS NULL)),
  CONSTRAINT schedules_every_positive CHECK (every_s > 0),
  CONSTRAINT schedules_priority_range CHECK (priority BETWEEN 0 AND 10),
  CONSTRAINT schedules_missed_known CHECK (missed IN ('skip', 'once', 'all')),
  CONSTRAINT schedules_overlap_known CHECK (overlap IN ('enqueue', 'skip'))
);
CREATE INDEX schedules_next ON schedules (next_at) WHERE enabled AND next_at IS NOT NULL;
