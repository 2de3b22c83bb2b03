-- Care: what replicas announce of themselves, who must be empty by when, each run of a duty, and what retention takes.

ALTER TABLE replicas
  ADD COLUMN configuration jsonb NOT NULL DEFAULT '{}',  -- its settings that should be the same on every replica, as text
  ADD COLUMN drain_by timestamptz;                       -- its machine goes then: what still runs is handed back before

-- A duty is done once in each period over all replicas: whoever inserts its tick does it.
CREATE TABLE maintenance_runs (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  duty         text NOT NULL,
  tick         timestamptz NOT NULL,        -- when it was due
  replica      text NOT NULL,
  tries        integer NOT NULL DEFAULT 1,  -- of this tick: a failed one is tried again, and one whose replica vanished
  started_at   timestamptz NOT NULL DEFAULT now(),
  finished_at  timestamptz,                 -- NULL: it runs, or its replica vanished
  rows         bigint,
  error        text,
  CONSTRAINT maintenance_runs_tick UNIQUE (duty, tick)
);
CREATE INDEX maintenance_runs_age ON maintenance_runs (started_at);

ALTER TABLE emails ADD COLUMN content_removed_at timestamptz;  -- bodies and files were, by retention

-- What steps cost whose runs retention took: usage counts them like those that are still there.
CREATE TABLE pruned_steps (
  run_id         uuid NOT NULL,
  project_id     uuid NOT NULL REFERENCES projects,
  agent_slug     text,
  model          text,
  calls          integer NOT NULL,
  input_tokens   bigint NOT NULL,
  output_tokens  bigint NOT NULL,
  cost_micros    bigint NOT NULL,
  started_at     timestamptz NOT NULL
);
CREATE INDEX pruned_steps_spent ON pruned_steps (started_at);
CREATE INDEX pruned_steps_spent_by_project ON pruned_steps (project_id, started_at);
