-- purpose: The files of a mail without their bytes.
-- $1 id uuid: the mail
SELECT filename, content_type, content_id, length(content) AS size
FROM email_attachments WHERE email_id = $1 ORDER BY position;
