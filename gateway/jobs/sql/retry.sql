-- purpose: a failed job waits again, with all its attempts; the errors of the earlier ones stay
-- $1 id uuid: its id
UPDATE jobs SET state = 'waiting', attempts = 0, stalls = 0, run_at = now(), finished_at = NULL, cancel_reason = NULL
WHERE id = $1 AND state || '' = 'failed'
RETURNING id, queue, state, priority, seq, group_key
