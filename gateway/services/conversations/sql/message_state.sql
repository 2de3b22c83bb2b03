-- purpose: why an attempt may not begin
-- $1 id uuid: the message
SELECT status, current_job_id FROM messages WHERE id = $1
