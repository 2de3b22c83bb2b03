-- purpose: Forget what servers said about mails that ended long ago.
-- $1 age_s double precision: since the mail's last change, in seconds
-- $2 limit bigint: how many at once
DELETE FROM email_attempts WHERE ctid = ANY (ARRAY(
  SELECT a.ctid FROM email_attempts a JOIN emails e ON e.id = a.email_id
  WHERE e.status NOT IN ('scheduled', 'pending', 'processing') AND e.updated_at < now() - $1 * interval '1 second'
  LIMIT $2))
