-- purpose: Mails that still wait for a job that does not exist (deleted by hand, or restored from an older backup).
-- $1 limit bigint: at most so many
-- Newest statuses only: what has ended needs no job. A minute old, so that nothing being written is looked at.
SELECT e.id, e.priority, e.user_id, e.scheduled_at FROM emails e
WHERE e.status IN ('scheduled', 'pending', 'processing') AND e.updated_at < now() - interval '1 minute'
  AND NOT EXISTS (SELECT FROM jobs j WHERE j.id = e.job_id)
ORDER BY e.created_at LIMIT $1
