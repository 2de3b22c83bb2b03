-- purpose: ask whoever runs a job to end it
-- $1 id uuid: its id
-- $2 reason text: why, for people
UPDATE jobs SET cancel_reason = $2 WHERE id = $1 AND state || '' = 'active'
RETURNING id
