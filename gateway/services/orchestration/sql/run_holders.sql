-- purpose: The open jobs that have a run's key or wait for it, held still, the one that has it first.
-- $1 queue text: the queue's name
-- $2 keys text[]: the key, and that of who waits for it
SELECT id, queue, state, priority, seq, group_key, dedupe_key FROM jobs
WHERE queue = $1 AND dedupe_key = ANY ($2::text[]) AND state IN ('waiting', 'delayed', 'active')
ORDER BY dedupe_key FOR NO KEY UPDATE
