-- purpose: Give a mail that is sent again the files of the original.
-- $1 source uuid: the original mail
-- $2 target uuid: the new mail
INSERT INTO email_attachments (email_id, position, filename, content_type, content_id, content)
SELECT $2, position, filename, content_type, content_id, content FROM email_attachments WHERE email_id = $1;
