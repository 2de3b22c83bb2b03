-- purpose: a delayed job waits now
-- $1 id uuid: its id
UPDATE jobs SET state = 'waiting', run_at = now()
WHERE id = $1 AND state || '' = 'delayed'
RETURNING id, queue, state, priority, seq, group_key
