-- What a job may say about itself beside its task: whose it is, until when it is worth starting, words to find it by.

-- group_key: the tenant, project or domain it belongs to; groups share a queue fairly (docs/groups.md). blocked: it waits,
-- but for its group's turn, not for a free slot; never true without a group_key.
-- expires_at: not started by then, it is cancelled instead.
ALTER TABLE jobs
  ADD COLUMN group_key text,
  ADD COLUMN blocked boolean NOT NULL DEFAULT false,
  ADD COLUMN expires_at timestamptz,
  ADD COLUMN tags text[] NOT NULL DEFAULT '{}';

-- Ready jobs only: a group with a long backlog is nothing that a claim has to step over (invariant I).
DROP INDEX jobs_waiting;
CREATE INDEX jobs_waiting ON jobs (queue, priority DESC, seq) WHERE state = 'waiting' AND NOT blocked;

CREATE INDEX jobs_blocked ON jobs (queue, group_key, priority DESC, seq) WHERE state = 'waiting' AND blocked;
CREATE INDEX jobs_expiring ON jobs (expires_at) WHERE expires_at IS NOT NULL AND state IN ('waiting', 'delayed');
CREATE INDEX jobs_tags ON jobs USING gin (tags) WHERE tags <> '{}';
