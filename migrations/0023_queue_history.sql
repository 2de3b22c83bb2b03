-- How each queue went, by the minute, over all replicas: what the charts show. Jobs that have ended are soon pruned, and
-- the gauges of a process end with it.
-- completed, failed: jobs that ended so; retried: attempts that failed and were followed by another.
-- wait_buckets, run_buckets: attempts by time, in the classes of gateway/jobs/history.py; empty: none ended.
-- waiting, active, delayed: the most that were seen in the minute.
CREATE TABLE queue_history (
  queue        text        NOT NULL,
  minute       timestamptz NOT NULL,
  completed    integer     NOT NULL DEFAULT 0,
  failed       integer     NOT NULL DEFAULT 0,
  retried      integer     NOT NULL DEFAULT 0,
  wait_buckets integer[]   NOT NULL DEFAULT '{}',
  run_buckets  integer[]   NOT NULL DEFAULT '{}',
  waiting      integer     NOT NULL DEFAULT 0,
  active       integer     NOT NULL DEFAULT 0,
  delayed      integer     NOT NULL DEFAULT 0,
  PRIMARY KEY (queue, minute)
);
CREATE INDEX queue_history_minute ON queue_history (minute);
