-- purpose: try a message again that has no answer
-- $1 id uuid: the message
-- $2 job_id uuid: the new job
UPDATE messages SET
  status = 'queued', job_id = $2, current_job_id = $2, fence = 0, error = NULL, error_kind = NULL, told = NULL, partial = NULL,
  requested_at = clock_timestamp(), started_at = NULL, finished_at = NULL
WHERE id = $1 AND status IN ('failed', 'cancelled')
RETURNING conversation_id, profile
