-- purpose: messages whose job ended without their knowing: cancelled, cut, stalled, expired, lost
-- $1 id uuid: this one only; NULL = all
-- $2 limit integer: at most so many
WITH ended AS MATERIALIZED (
  SELECT id, current_job_id, status_now, job_error FROM messages_now
  WHERE status IN ('queued', 'running') AND status_now IN ('failed', 'cancelled') AND ($1::uuid IS NULL OR id = $1)
  LIMIT $2
), held AS MATERIALIZED (
  -- It waits for nobody: whoever holds one now knows more, and the next look comes soon.
  SELECT id FROM messages WHERE id = ANY (ARRAY(SELECT id FROM ended)) FOR UPDATE SKIP LOCKED
)
UPDATE messages m SET
  status = e.status_now, error_kind = CASE WHEN e.status_now = 'cancelled' THEN 'cancelled' ELSE 'job' END,
  error = coalesce(e.job_error, 'its job ended without an answer'), finished_at = clock_timestamp()
FROM ended e JOIN held h ON h.id = e.id
WHERE m.id = e.id AND m.current_job_id = e.current_job_id AND m.status IN ('queued', 'running')
RETURNING m.id
