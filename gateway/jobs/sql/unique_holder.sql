-- purpose: the job that has a key: an open one, else the newest that was accepted inside the window and not cancelled
-- $1 queue text: the queue's name
-- $2 key text: dedupe key
-- $3 window_s double precision: seconds; NULL = open jobs only
SELECT id, queue, state, priority, seq, group_key FROM jobs
WHERE queue = $1 AND dedupe_key = $2 AND (
  state IN ('waiting', 'delayed', 'active')
  OR (state IN ('completed', 'failed') AND created_at > now() - $3 * interval '1 second')
)
ORDER BY state IN ('waiting', 'delayed', 'active') DESC, seq DESC LIMIT 1
