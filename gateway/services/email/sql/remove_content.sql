-- purpose: Remove bodies and files of mails that ended and that nobody can send again as they are.
-- $1 age_s double precision: seconds since they came
-- $2 limit bigint: at most so many mails
WITH old AS MATERIALIZED (
  SELECT e.id FROM emails e
  WHERE e.created_at < now() - $1 * interval '1 second' AND e.content_removed_at IS NULL
    AND e.status IN ('sent', 'delivered', 'bounced', 'complained', 'failed', 'cancelled', 'suppressed')
    AND NOT EXISTS (SELECT FROM jobs j WHERE j.id = e.job_id AND j.state <> 'completed')
  ORDER BY e.created_at LIMIT $2 FOR UPDATE SKIP LOCKED
), files AS (
  DELETE FROM email_attachments WHERE email_id IN (SELECT id FROM old)
), told AS (
  INSERT INTO email_events (email_id, type) SELECT id, 'content_removed' FROM old
)
UPDATE emails SET html = NULL, text = NULL, content_removed_at = now() WHERE id IN (SELECT id FROM old)
