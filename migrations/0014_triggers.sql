-- What starts runs by itself: the clock, and signed webhooks (O25, O38).

-- When the agents of a project run. The ticks are those of the schedule `project:<project>:<id>` in `schedules`; each is
-- judged here before it becomes a run.
CREATE TABLE run_schedules (
  id                            uuid PRIMARY KEY,
  project_id                    uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
  agent_slug                    text,                    -- NULL: a batch of all agents of the project
  preset                        text,                    -- what `cron` was made of, with `hour`; NULL: it was given
  hour                          smallint,
  cron                          text NOT NULL,
  time_zone                     text NOT NULL,
  window_from                   time,                    -- on the wall of `time_zone`; NULL: any time
  window_to                     time,                    -- not after this; before `window_from`: of the next day
  window_days                   smallint[],              -- on which the window opens, 1 is Monday
  min_interval_minutes          integer NOT NULL,
  max_runs_per_day              integer NOT NULL,
  cooldown_minutes_after_error  integer NOT NULL,
  enabled                       boolean NOT NULL,
  revision                      bigint NOT NULL DEFAULT 1,  -- grows with every change and every run
  last_tick_at                  timestamptz,             -- of the last run
  last_run_id                   uuid,
  runs_on                       date,                    -- the day of `runs_that_day`, by the wall of `time_zone`
  runs_that_day                 integer NOT NULL DEFAULT 0,
  skipped_at                    timestamptz,
  skip_code                     text,
  skip_reason                   text,
  created_by                    text NOT NULL,
  created_at                    timestamptz NOT NULL DEFAULT now(),
  updated_at                    timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT run_schedules_window CHECK ((window_from IS NULL) = (window_to IS NULL) AND (window_from IS NULL) = (window_days IS NULL))
);
CREATE UNIQUE INDEX run_schedules_of ON run_schedules (project_id, coalesce(agent_slug, ''));

-- What became of each tick, by the job that judged it: a job that runs again finds what it did.
CREATE TABLE run_schedule_ticks (
  schedule_id  uuid NOT NULL REFERENCES run_schedules ON DELETE CASCADE,
  job_id       uuid NOT NULL,
  tick_at      timestamptz NOT NULL,
  run_id       uuid,                                     -- NULL: skipped
  skip_code    text,
  skip_reason  text,
  at           timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (schedule_id, job_id)
);
CREATE INDEX run_schedule_ticks_at ON run_schedule_ticks (at);

-- Webhooks that start runs. The secret is not stored: it is derived from `salt` with a key of the settings.
CREATE TABLE webhook_triggers (
  id              uuid PRIMARY KEY,
  project_id      uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
  name            text NOT NULL,
  agent_slug      text,                                  -- NULL: a batch
  scheme          text NOT NULL,                         -- who signs, and how
  events          text[] NOT NULL,                       -- empty: any
  actions         text[] NOT NULL,
  branches        text[] NOT NULL,
  on_conflict     text NOT NULL,
  max_per_minute  integer NOT NULL,
  enabled         boolean NOT NULL,
  salt            bytea NOT NULL,
  key_check       bytea NOT NULL,                        -- tells which key the secret was derived with, not the key
  minute          timestamptz,                           -- of `received`
  received        integer NOT NULL DEFAULT 0,            -- deliveries of that minute that may start a run
  last_at         timestamptz,                           -- of the last signed delivery
  skipped_at      timestamptz,
  skip_reason     text,
  created_by      text NOT NULL,
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT webhook_triggers_scheme CHECK (scheme IN ('gateway', 'github')),
  CONSTRAINT webhook_triggers_name UNIQUE (project_id, name)
);

-- Deliveries that were acted upon: each delivery id and each signature counts once.
CREATE TABLE webhook_deliveries (
  id           uuid PRIMARY KEY,
  trigger_id   uuid NOT NULL REFERENCES webhook_triggers ON DELETE CASCADE,
  delivery_id  text,                                     -- the sender's
  signature    bytea NOT NULL,
  event        text,
  run_id       uuid,                                     -- NULL: it started none
  skip_reason  text,
  at           timestamptz NOT NULL DEFAULT now(),
  UNIQUE (trigger_id, signature),
  UNIQUE (trigger_id, delivery_id)
);
CREATE INDEX webhook_deliveries_at ON webhook_deliveries (at);
