-- purpose: Give a mail whose job has ended a new one, and its refused recipients another try.
-- $1 id uuid: the mail
-- $2 job_id uuid: the new job
-- $3 priority smallint: its priority
-- $4 scheduled_at timestamptz: not before; NULL or past means now
-- $5 expires_at timestamptz: not started by then = cancelled; NULL = never
WITH recipient AS (
  UPDATE email_recipients SET status = 'pending' WHERE email_id = $1 AND status = 'rejected'
), event AS (
  INSERT INTO email_events (email_id, type)
  VALUES ($1, CASE WHEN $4::timestamptz > now() THEN 'scheduled' ELSE 'queued' END)
)
UPDATE emails SET job_id = $2, priority = $3, scheduled_at = $4, expires_at = $5, updated_at = now(), error = NULL,
  status = CASE WHEN $4 > now() THEN 'scheduled' ELSE 'pending' END
WHERE id = $1;
