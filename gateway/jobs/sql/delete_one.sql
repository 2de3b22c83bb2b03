-- purpose: delete a job that has ended
-- $1 id uuid: its id
DELETE FROM jobs WHERE id = $1 AND state || '' IN ('completed', 'failed', 'cancelled')
RETURNING id
