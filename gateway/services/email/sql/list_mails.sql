-- purpose: A page of mails, newest first; each filter is off when NULL.
-- $1 owner text: whose mails
-- $2 status text: status word
-- $3 recipient text: bare address that stands in to, cc or bcc, in lower case
-- $4 tag jsonb: array of one object with name, or name and value
-- $5 reference_type text: exact
-- $6 reference_id text: exact
-- $7 since timestamptz: accepted at or after
-- $8 until timestamptz: accepted before
-- $9 before_at timestamptz: the last page's last mail: when it was accepted
-- $10 before_id uuid: and its id
-- $11 limit int: most rows
SELECT e.id, e.job_id, e.owner, e.status, e.from_address, e.to_addresses, e.cc_addresses, e.bcc_addresses, e.reply_to,
  e.subject, e.headers, e.tags, e.metadata, e.priority, e.category, e.stream, e.reference_type, e.reference_id,
  e.simulate, e.resend_of, e.message_id, e.uncertain, e.error, e.scheduled_at, e.expires_at, e.group_key, e.created_at, e.updated_at,
  e.sent_at
FROM emails e
WHERE ($1::text IS NULL OR e.owner = $1)
  AND ($2::text IS NULL OR e.status = $2)
  AND ($3::text IS NULL OR e.id = ANY (ARRAY(SELECT r.email_id FROM email_recipients r WHERE lower(r.address) = $3)))
  AND ($4::jsonb IS NULL OR e.tags @> $4)
  AND ($5::text IS NULL OR e.reference_type = $5)
  AND ($6::text IS NULL OR e.reference_id = $6)
  AND ($7::timestamptz IS NULL OR e.created_at >= $7)
  AND ($8::timestamptz IS NULL OR e.created_at < $8)
  AND ($9::timestamptz IS NULL OR (e.created_at, e.id) < ($9, $10::uuid))
ORDER BY e.created_at DESC, e.id DESC
LIMIT $11;
