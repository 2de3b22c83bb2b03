-- purpose: messages whose job ended without their knowing: cancelled, cut, stalled, expired, lost
-- $1 id uuid: this one only; NULL = all
-- $2 limit integer: at most so many
UPDATE messages m SET
  status = n.status_now, error_kind = CASE WHEN n.status_now = 'cancelled' THEN 'cancelled' ELSE 'job' END,
  error = coalesce(n.job_error, 'its job ended without an answer'), finished_at = clock_timestamp()
FROM (
  SELECT id, current_job_id, status_now, job_error FROM messages_now
  WHERE status IN ('queued', 'running') AND status_now IN ('failed', 'cancelled') AND ($1::uuid IS NULL OR id = $1)
  LIMIT $2
) n
WHERE m.id = n.id AND m.current_job_id = n.current_job_id AND m.status IN ('queued', 'running')
RETURNING m.id
