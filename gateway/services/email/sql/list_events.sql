-- purpose: A mail's timeline, oldest first.
-- $1 id uuid: the mail
SELECT type, at, detail FROM email_events WHERE email_id = $1 ORDER BY id;
