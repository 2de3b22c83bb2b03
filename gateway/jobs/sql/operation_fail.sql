-- purpose: end an operation that cannot go on
-- $1 id uuid: its id
-- $2 error text: why, for people
UPDATE operations SET state = 'failed', error = $2, finished_at = now(), updated_at = now()
WHERE id = $1 AND state = 'running'
