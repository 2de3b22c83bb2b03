-- What people change about queues and replicas while they run.

-- Settings of a queue that an administrator replaced, by name: {"concurrency": 10, "rate_max": 50}. A name that is not
-- there has the value of the replicas' settings. Beside `queues`, because that row is written with every claim.
CREATE TABLE queue_overrides (
  queue       text PRIMARY KEY,
  changes     jsonb NOT NULL DEFAULT '{}',
  updated_at  timestamptz NOT NULL DEFAULT now()
);

-- Somebody asked this replica to take no further job; it reads that with its next sign of life.
ALTER TABLE replicas ADD COLUMN drain_requested boolean NOT NULL DEFAULT false;
