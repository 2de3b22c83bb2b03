-- purpose: move the start of a job that has not been tried yet
-- $1 id uuid: its id
-- $2 run_at timestamptz: not before; past = now
UPDATE jobs SET turn_fence = NULL, run_at = greatest($2, now()), state = CASE WHEN $2 > now() THEN 'delayed' ELSE 'waiting' END
WHERE id = $1 AND state || '' IN ('waiting', 'delayed') AND attempts = 0
RETURNING id, queue, state, priority, seq, group_key
