-- purpose: One file of a mail with its bytes.
-- $1 id uuid: the mail
-- $2 position smallint: its place in the mail, from 0
SELECT filename, content_type, content_id, content FROM email_attachments WHERE email_id = $1 AND position = $2;
