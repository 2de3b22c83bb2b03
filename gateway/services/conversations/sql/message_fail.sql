-- purpose: the message has no answer, if this attempt still works on it
-- $1 id uuid: the message
-- $2 job_id uuid: the attempt's job
-- $3 fence bigint: the attempt's
-- $4 kind text: a bounded word
-- $5 error text: for people
UPDATE messages SET status = 'failed', error_kind = $4, error = $5, finished_at = clock_timestamp()
WHERE id = $1 AND current_job_id = $2 AND fence = $3 AND status = 'running'
RETURNING id
