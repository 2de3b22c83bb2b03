-- purpose: The end of a mail's timeline, newest first.
-- $1 id uuid: the mail
-- $2 limit bigint: most rows
SELECT type, at, detail FROM email_events WHERE email_id = $1 ORDER BY id DESC LIMIT $2;
