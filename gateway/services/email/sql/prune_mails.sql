-- purpose: Delete mails that ended long ago, with recipients, attempts, events and files.
-- $1 age_s double precision: seconds since they came
-- $2 limit bigint: at most so many mails
WITH old AS MATERIALIZED (
  SELECT e.id FROM emails e
  WHERE e.created_at < now() - $1 * interval '1 second'
    AND e.status IN ('sent', 'delivered', 'bounced', 'complained', 'failed', 'cancelled', 'suppressed')
    AND NOT EXISTS (SELECT FROM jobs j WHERE j.id = e.job_id)
  ORDER BY e.created_at LIMIT $2 FOR UPDATE SKIP LOCKED
)
DELETE FROM emails WHERE id IN (SELECT id FROM old)
