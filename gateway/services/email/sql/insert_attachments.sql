-- purpose: Keep the files of the mails just inserted.
-- $1 email_ids uuid[]: the mail of each file
-- $2 positions smallint[]: its place in the mail, from 0
-- $3 filenames text[]: as they will stand in the header
-- $4 content_types text[]: media types
-- $5 content_ids text[]: NULL unless the file is an inline image
-- $6 contents bytea[]: decoded bytes
INSERT INTO email_attachments (email_id, position, filename, content_type, content_id, content)
SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::bytea[]);
