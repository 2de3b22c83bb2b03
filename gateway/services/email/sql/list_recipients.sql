-- purpose: Each recipient of a mail with the server's answer.
-- $1 id uuid: the mail
SELECT address, kind, status, code, reply, at FROM email_recipients WHERE email_id = $1 ORDER BY position;
