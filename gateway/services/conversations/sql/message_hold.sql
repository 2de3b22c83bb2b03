-- purpose: hold a message that this attempt still works on
-- $1 id uuid: the message
-- $2 job_id uuid: the attempt's job
-- $3 fence bigint: the attempt's
SELECT id FROM messages WHERE id = $1 AND current_job_id = $2 AND fence = $3 AND status = 'running' FOR UPDATE
