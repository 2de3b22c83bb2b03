-- purpose: cancel a job that has not started
-- $1 id uuid: its id
-- $2 reason text: why, for people
UPDATE jobs SET state = 'cancelled', error = $2, finished_at = now()
WHERE id = $1 AND state || '' IN ('waiting', 'delayed')
RETURNING id
