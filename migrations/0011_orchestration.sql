-- Agents at work: whose they are, what they did, what it cost, what they want to do. Jobs carry ids only (O37).

CREATE TABLE projects (
  id                    uuid PRIMARY KEY,
  name                  text NOT NULL,
  repository            text,                            -- owner/name on GitHub
  facts                 jsonb NOT NULL DEFAULT '{}',     -- what every agent is told about it
  monthly_budget_micros bigint,                          -- millionths of a US dollar a calendar month (UTC); NULL: none
  created_by            text NOT NULL,
  created_at            timestamptz NOT NULL DEFAULT now(),
  updated_at            timestamptz NOT NULL DEFAULT now(),
  archived_at           timestamptz
);

-- principal: a token's subject or an API key's id (access.Principal.id).
CREATE TABLE project_members (
  project_id  uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
  principal   text NOT NULL,
  role        text NOT NULL DEFAULT 'member',            -- 'owner' may change the project and its members
  added_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project_id, principal),
  CONSTRAINT project_members_role CHECK (role IN ('owner', 'member'))
);
CREATE INDEX project_members_of ON project_members (principal);

-- Agents that a team added, and what it changed of those that come with the gateway (files, gateway/services/orchestration/agents/).
CREATE TABLE agents (
  slug               text PRIMARY KEY,
  name               text NOT NULL,
  description        text NOT NULL DEFAULT '',
  prompt             text NOT NULL,
  tools              text[] NOT NULL DEFAULT '{}',
  model              text,                               -- NULL: the default model of the settings
  output_schema      jsonb,                              -- NULL: the common one
  max_output_tokens  integer NOT NULL DEFAULT 4096,
  timeout_s          integer NOT NULL DEFAULT 180,
  enabled            boolean NOT NULL DEFAULT true,
  updated_by         text NOT NULL,
  updated_at         timestamptz NOT NULL DEFAULT now()
);

-- Which agents a project uses; a project without rows uses all that are enabled.
CREATE TABLE project_agents (
  project_id  uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
  slug        text NOT NULL,
  enabled     boolean NOT NULL,
  PRIMARY KEY (project_id, slug)
);

-- One run: its id is that of its job. It outlives the job's row (retention).
CREATE TABLE runs (
  id              uuid PRIMARY KEY,
  project_id      uuid NOT NULL REFERENCES projects,
  job_type        text NOT NULL,
  agent_slug      text,
  triggered_by    text NOT NULL,
  user_id         text,
  context         jsonb NOT NULL DEFAULT '{}',
  dry_run         boolean NOT NULL DEFAULT false,
  budget_micros   bigint,                                -- of this run alone; NULL: the project's only
  timeout_ms      integer,
  retry_of        uuid REFERENCES runs,
  status          text NOT NULL DEFAULT 'queued',
  result          jsonb,                                 -- OrchestrationJobResult (O8)
  error           text,
  input_tokens    bigint NOT NULL DEFAULT 0,
  output_tokens   bigint NOT NULL DEFAULT 0,
  cost_micros     bigint NOT NULL DEFAULT 0,
  demo            boolean NOT NULL DEFAULT false,        -- the labelled demonstration answered, not a model
  created_at      timestamptz NOT NULL DEFAULT now(),
  started_at      timestamptz,
  finished_at     timestamptz,
  CONSTRAINT runs_status CHECK (status IN ('queued', 'running', 'awaiting_approval', 'completed', 'failed', 'cancelled')),
  CONSTRAINT runs_job_type CHECK (job_type IN ('batch', 'single_agent', 'github_analysis', 'retry'))
);
CREATE INDEX runs_of_project ON runs (project_id, id DESC);
CREATE INDEX runs_by_status ON runs (status, id DESC);

-- One agent of a run (or its analysis): what makes a retry resume where it stopped (O30) and what was paid (O27, O33).
CREATE TABLE run_steps (
  id             uuid PRIMARY KEY,
  run_id         uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
  project_id     uuid NOT NULL REFERENCES projects,      -- its run's; a trigger sets it
  position       integer NOT NULL,
  kind           text NOT NULL,                          -- 'agent' or 'github_analysis'
  agent_slug     text,
  status         text NOT NULL DEFAULT 'waiting',
  attempts       integer NOT NULL DEFAULT 0,
  output         jsonb,                                  -- what fitted the schema
  partial_text   text,                                   -- what had come when it was cut (O28)
  refusal        text,
  error          text,
  error_kind     text,                                   -- llm.model.ModelError.kind
  model          text,
  provider       text,
  prompt_sha256  text,
  calls          integer NOT NULL DEFAULT 0,             -- of the model, repairs and failed ones too (Spent.calls)
  input_tokens   bigint NOT NULL DEFAULT 0,
  output_tokens  bigint NOT NULL DEFAULT 0,
  cost_micros    bigint NOT NULL DEFAULT 0,
  latency_ms     integer,
  demo           boolean NOT NULL DEFAULT false,
  started_at     timestamptz,
  finished_at    timestamptz,
  UNIQUE (run_id, position),
  CONSTRAINT run_steps_status CHECK (status IN ('waiting', 'running', 'completed', 'failed', 'refused', 'cancelled'))
);
CREATE INDEX run_steps_spent ON run_steps (started_at) WHERE started_at IS NOT NULL;
-- What a project spent in a month is one range of this index, and no visit of the table.
CREATE INDEX run_steps_spent_by_project ON run_steps (project_id, started_at) INCLUDE (cost_micros)
  WHERE started_at IS NOT NULL;

CREATE FUNCTION set_project_of_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  SELECT r.project_id INTO NEW.project_id FROM runs r WHERE r.id = NEW.run_id;
  RETURN NEW;
END $$;
CREATE TRIGGER run_steps_project BEFORE INSERT ON run_steps FOR EACH ROW EXECUTE FUNCTION set_project_of_step();

CREATE TABLE suggestions (
  id           uuid PRIMARY KEY,
  project_id   uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
  run_id       uuid NOT NULL REFERENCES runs,
  step_id      uuid NOT NULL REFERENCES run_steps,
  position     integer NOT NULL,                         -- in the step's output: recording twice changes nothing
  agent_slug   text NOT NULL,
  title        text NOT NULL,
  detail       text NOT NULL DEFAULT '',
  priority     integer NOT NULL DEFAULT 5,
  status       text NOT NULL DEFAULT 'open',
  created_at   timestamptz NOT NULL DEFAULT now(),
  expires_at   timestamptz,
  decided_at   timestamptz,
  decided_by   text,
  UNIQUE (step_id, position),
  CONSTRAINT suggestions_status CHECK (status IN ('open', 'approved', 'rejected', 'expired'))
);
CREATE INDEX suggestions_of_project ON suggestions (project_id, status, id DESC);
CREATE INDEX suggestions_open ON suggestions (expires_at) WHERE status = 'open';

CREATE TABLE tasks (
  id           uuid PRIMARY KEY,
  project_id   uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
  run_id       uuid REFERENCES runs,
  step_id      uuid REFERENCES run_steps,
  position     integer,
  title        text NOT NULL,
  detail       text NOT NULL DEFAULT '',
  priority     integer NOT NULL DEFAULT 5,
  status       text NOT NULL DEFAULT 'open',
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now(),
  UNIQUE (step_id, position),
  CONSTRAINT tasks_status CHECK (status IN ('open', 'in_progress', 'done', 'dropped'))
);
CREATE INDEX tasks_of_project ON tasks (project_id, status, id DESC);

-- What agents may do, by project and kind of action (O24). No row: the built-in policy of the kind.
CREATE TABLE action_configs (
  id                 uuid PRIMARY KEY,
  project_id         uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
  action             text NOT NULL,                      -- create_task, send_email, comment_issue, open_issue
  enabled            boolean NOT NULL DEFAULT true,
  requires_approval  boolean NOT NULL DEFAULT true,
  risk               text NOT NULL DEFAULT 'medium',
  max_per_hour       integer NOT NULL DEFAULT 3,
  max_per_day        integer NOT NULL DEFAULT 10,
  cooldown_s         integer NOT NULL DEFAULT 900,
  updated_by         text NOT NULL,
  updated_at         timestamptz NOT NULL DEFAULT now(),
  UNIQUE (project_id, action),
  CONSTRAINT action_configs_risk CHECK (risk IN ('low', 'medium', 'high'))
);

-- One thing an agent wants done: decided by policy or by a person, executed once by a job of its own.
CREATE TABLE actions (
  id           uuid PRIMARY KEY,
  project_id   uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
  run_id       uuid NOT NULL REFERENCES runs,
  step_id      uuid NOT NULL REFERENCES run_steps,
  position     integer NOT NULL,
  agent_slug   text NOT NULL,
  action       text NOT NULL,
  arguments    jsonb NOT NULL,
  proposed     jsonb,                                    -- what the agent asked for, where a person changed it
  rationale    text NOT NULL DEFAULT '',
  risk         text NOT NULL,
  status       text NOT NULL,
  reason       text,                                     -- why refused, rejected, failed or expired
  expires_at   timestamptz,                              -- of a pending approval
  decided_by   text,
  decided_at   timestamptz,
  comment      text,
  not_before   timestamptz,                              -- the cooldown holds it back until then
  job_id       uuid,                                     -- that executes it
  outcome      jsonb,                                    -- what came of it: ids, addresses of pages
  created_at   timestamptz NOT NULL DEFAULT now(),
  executed_at  timestamptz,                              -- when its execution began
  UNIQUE (step_id, position),
  CONSTRAINT actions_status CHECK
    (status IN ('pending', 'approved', 'rejected', 'expired', 'refused', 'planned', 'executing', 'executed', 'failed'))
);
CREATE INDEX actions_of_run ON actions (run_id);
CREATE INDEX actions_by_status ON actions (project_id, status, id DESC);
CREATE INDEX actions_pending ON actions (expires_at) WHERE status = 'pending';
CREATE INDEX actions_executed ON actions (project_id, action, executed_at) WHERE executed_at IS NOT NULL;
CREATE INDEX actions_under_way ON actions (job_id) WHERE status IN ('approved', 'executing');

-- When actions of a kind were started in the last day, over all replicas: whoever updates the row sees the others.
CREATE TABLE action_starts (
  project_id  uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
  action      text NOT NULL,
  starts      timestamptz[] NOT NULL,
  PRIMARY KEY (project_id, action)
);
