-- purpose: failed jobs of a queue wait again, oldest failure first; of one dedupe key only the newest, and only if it is free
-- $1 queue text: its name
-- $2 before timestamptz: only those that failed up to then
-- $3 limit bigint: at most so many in one statement
WITH picked AS MATERIALIZED (
  SELECT f.id FROM jobs f
  WHERE f.queue = $1 AND f.state = 'failed' AND f.finished_at <= $2 AND NOT EXISTS (
    SELECT FROM jobs o
    WHERE o.queue = f.queue AND o.dedupe_key = f.dedupe_key
      AND (o.state IN ('waiting', 'delayed', 'active') OR (o.state = 'failed' AND o.seq > f.seq)))
  ORDER BY f.finished_at LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE jobs SET state = 'waiting', attempts = 0, stalls = 0, run_at = now(), finished_at = NULL, cancel_reason = NULL
WHERE id = ANY (ARRAY(SELECT id FROM picked))
RETURNING id, queue, state, priority, seq, group_key
