-- Conversations with a model, and research in iterations (O15-O19, O37). Jobs carry the ids of these rows, nothing else.

CREATE TABLE conversations (
  id          uuid PRIMARY KEY,
  owner       text NOT NULL,                             -- Principal.id: nobody else sees it
  title       text NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now()         -- of the last question
);
CREATE INDEX conversations_of ON conversations (owner, id DESC);

-- A question and its answer.
CREATE TABLE messages (
  id               uuid PRIMARY KEY,
  seq              bigint GENERATED ALWAYS AS IDENTITY,  -- order of arrival
  conversation_id  uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
  profile          text NOT NULL,                        -- 'chat' or 'deep-research'
  auth_method      text NOT NULL,
  question         text NOT NULL,
  file_ids         text[] NOT NULL DEFAULT '{}',         -- of files that are kept elsewhere
  model            text NOT NULL,
  job_id           uuid NOT NULL,                        -- what the caller was told: the first job since it was asked
  current_job_id   uuid NOT NULL,                        -- the one that works on it; of a chat always `job_id`
  fence            bigint NOT NULL DEFAULT 0,            -- of the attempt that works on it: only its bearer may answer
  status           text NOT NULL DEFAULT 'queued',
  stage            text NOT NULL DEFAULT 'queued',
  percent          smallint NOT NULL DEFAULT 0,
  answer           text,
  partial          text,                                 -- of an answer that was cut
  refused          boolean NOT NULL DEFAULT false,       -- the answer is the model's refusal
  demo             boolean NOT NULL DEFAULT false,       -- no model answered, the demonstration did
  provider         text,
  error            text,
  error_kind       text,
  input_tokens     bigint NOT NULL DEFAULT 0,            -- of all attempts, those that failed too
  output_tokens    bigint NOT NULL DEFAULT 0,
  cost_micros      bigint NOT NULL DEFAULT 0,            -- millionths of a US dollar
  requested_at     timestamptz NOT NULL DEFAULT now(),
  started_at       timestamptz,
  finished_at      timestamptz,
  told             text,                                 -- the final status that listeners have heard of
  CONSTRAINT messages_status_known CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled'))
);
CREATE INDEX messages_in ON messages (conversation_id, seq DESC);
CREATE INDEX messages_job ON messages (job_id);
CREATE INDEX messages_open ON messages (id) WHERE status IN ('queued', 'running');
CREATE INDEX messages_untold ON messages (id)
  WHERE status IN ('completed', 'failed', 'cancelled') AND told IS DISTINCT FROM status;

-- Where a research stands: what its next iteration does.
CREATE TABLE research_states (
  id              uuid PRIMARY KEY,
  message_id      uuid NOT NULL UNIQUE REFERENCES messages ON DELETE CASCADE,
  stage           text NOT NULL,
  percent         smallint NOT NULL DEFAULT 0,
  iteration       integer NOT NULL DEFAULT 0,            -- how many are done
  round           integer NOT NULL DEFAULT 0,            -- how many analyses asked for more
  max_iterations  integer NOT NULL,
  budget_micros   bigint,                                -- NULL: any
  questions       jsonb NOT NULL DEFAULT '[]',           -- those that are left
  plan            jsonb,
  updated_at      timestamptz NOT NULL DEFAULT now()
);

-- What each iteration brought. It is here before the next one begins: nothing is paid twice.
CREATE TABLE research_notes (
  state_id    uuid NOT NULL REFERENCES research_states ON DELETE CASCADE,
  number      integer NOT NULL,
  job_id      uuid NOT NULL,
  stage       text NOT NULL,
  subject     text,                                      -- the question of a search
  output      jsonb NOT NULL,
  demo        boolean NOT NULL,
  cost_micros bigint NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (state_id, number)
);

-- When a caller's last messages were accepted, by profile: the window of the limits for each user (U5).
CREATE TABLE message_allowances (
  owner     text NOT NULL,
  profile   text NOT NULL,
  accepted  timestamptz[] NOT NULL,
  PRIMARY KEY (owner, profile)
);

-- Messages as they stand now, whatever became of their job: cancelled while it waited, stalled, cut, or lost.
CREATE VIEW messages_now AS
SELECT m.*, c.owner, j.state AS job_state, j.error AS job_error,
       CASE WHEN m.status IN ('completed', 'failed', 'cancelled') THEN m.status
            WHEN j.state = 'active' THEN 'running'
            WHEN j.state IN ('waiting', 'delayed') THEN m.status
            WHEN j.state = 'cancelled' THEN 'cancelled'
            ELSE 'failed' END AS status_now
FROM messages m JOIN conversations c ON c.id = m.conversation_id LEFT JOIN jobs j ON j.id = m.current_job_id;
