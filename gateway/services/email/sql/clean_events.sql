-- purpose: Forget what happened to mails that ended long ago; the mails stay, with how they ended.
-- $1 age_s double precision: since the mail's last change, in seconds
-- $2 limit bigint: how many at once
DELETE FROM email_events WHERE id = ANY (ARRAY(
  SELECT v.id FROM email_events v JOIN emails e ON e.id = v.email_id
  WHERE e.status NOT IN ('scheduled', 'pending', 'processing') AND e.updated_at < now() - $1 * interval '1 second'
    AND v.at < now() - $1 * interval '1 second'
  LIMIT $2))
