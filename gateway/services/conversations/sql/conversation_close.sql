-- purpose: cancel what is open in a conversation; answers the jobs at work
-- $1 conversation_id uuid: which
UPDATE messages SET status = 'cancelled', finished_at = clock_timestamp()
WHERE conversation_id = $1 AND status IN ('queued', 'running') RETURNING current_job_id
