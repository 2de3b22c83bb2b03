-- purpose: One mail without its bodies.
-- $1 id uuid: the mail
-- $2 owner text: whose mail it must be, NULL for anybody's
SELECT e.id, e.job_id, e.owner, e.status, e.from_address, e.to_addresses, e.cc_addresses, e.bcc_addresses, e.reply_to,
  e.subject, e.headers, e.tags, e.metadata, e.priority, e.category, e.stream, e.reference_type, e.reference_id,
  e.simulate, e.resend_of, e.message_id, e.uncertain, e.error, e.scheduled_at, e.expires_at, e.group_key, e.created_at, e.updated_at,
  e.sent_at
FROM emails e WHERE e.id = $1 AND ($2::text IS NULL OR e.owner = $2);
