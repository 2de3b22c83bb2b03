-- purpose: The files of a mail with their bytes, to send it.
-- $1 id uuid: the mail
SELECT filename, content_type, content_id, content FROM email_attachments WHERE email_id = $1 ORDER BY position;
