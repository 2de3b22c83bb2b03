-- purpose: The images that a mail's HTML can show, with their bytes.
-- $1 id uuid: the mail
SELECT filename, content_type, content_id, content FROM email_attachments
WHERE email_id = $1 AND content_id IS NOT NULL AND content_type LIKE 'image/%' ORDER BY position;
