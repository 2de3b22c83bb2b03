-- Work on many jobs at once, asked for by an administrator and done in chunks by the elected leader, so that it survives
-- restarts. A chunk's jobs and the operation's progress are written by one statement: none is counted twice.
CREATE TABLE operations (
  id           uuid PRIMARY KEY,
  action       text NOT NULL,
  queue        text NOT NULL,
  filter       jsonb NOT NULL,              -- what was asked, as it is shown: {"state": "failed", "error": "timeout"}
  ids          uuid[],                      -- the jobs that were named instead, newest first
  reason       text,                        -- stands on the jobs that it cancels
  state        text NOT NULL DEFAULT 'running',
  total        bigint NOT NULL,             -- jobs that matched when it was asked for
  done         bigint NOT NULL DEFAULT 0,
  failed       bigint NOT NULL DEFAULT 0,   -- matched, but their state or another job with their key forbade it by then
  position     uuid,                        -- every job from the newest down to this one has been dealt with
  error        text,                        -- why it ended early
  actor        text NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now(),
  finished_at  timestamptz,
  CONSTRAINT operations_action_known CHECK (action IN ('retry', 'cancel', 'delete', 'promote')),
  CONSTRAINT operations_state_known CHECK (state IN ('running', 'completed', 'cancelled', 'failed'))
);
CREATE INDEX operations_running ON operations (updated_at) WHERE state = 'running';

-- Searching: the jobs that people look for, newest first, however many others wait. Waiting, active and completed jobs
-- are not in it, so that the usual way of a job writes nothing here.
CREATE INDEX jobs_set_aside ON jobs (queue, state, id) WHERE state IN ('delayed', 'failed', 'cancelled');

-- Which job a replayed one repeats. That one is kept as it ended, until its retention is over.
ALTER TABLE jobs ADD COLUMN replay_of uuid;
CREATE INDEX jobs_replays ON jobs (replay_of, id) WHERE replay_of IS NOT NULL;
