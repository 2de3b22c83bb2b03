-- purpose: a message that is open is wanted no more; answers the job at work
-- $1 id uuid: the message
-- $2 reason text: for people
UPDATE messages SET status = 'cancelled', error_kind = 'cancelled', error = $2, finished_at = clock_timestamp()
WHERE id = $1 AND status IN ('queued', 'running')
RETURNING current_job_id
