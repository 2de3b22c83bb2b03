-- purpose: Keep accepted mails with their recipients and their first event, in one round trip however many they are.
-- $1 mails jsonb: array of objects with the columns of emails that the caller decides
-- $2 recipients jsonb: array of {email_id, address, kind, position}
-- The status compares with the ledger's clock: a time in the past means now.
WITH mail AS (
  INSERT INTO emails (id, job_id, owner, user_id, status, priority, from_address, to_addresses, cc_addresses,
    bcc_addresses, reply_to, subject, html, text, headers, tags, metadata, category, stream, reference_type,
    reference_id, simulate, resend_of, message_id, scheduled_at, expires_at, group_key)
  SELECT id, job_id, owner, user_id, CASE WHEN scheduled_at > now() THEN 'scheduled' ELSE 'pending' END, priority,
    from_address, to_addresses, cc_addresses, bcc_addresses, reply_to, subject, html, text, headers, tags, metadata,
    category, stream, reference_type, reference_id, simulate, resend_of, message_id, scheduled_at, expires_at, group_key
  FROM jsonb_populate_recordset(NULL::emails, $1)
  RETURNING id, status
), recipient AS (
  INSERT INTO email_recipients (email_id, address, kind, position)
  SELECT email_id, address, kind, position FROM jsonb_populate_recordset(NULL::email_recipients, $2)
), event AS (
  INSERT INTO email_events (email_id, type)
  SELECT id, CASE WHEN status = 'scheduled' THEN 'scheduled' ELSE 'queued' END FROM mail
)
SELECT id, status FROM mail;
