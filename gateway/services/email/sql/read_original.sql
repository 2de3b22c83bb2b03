-- purpose: Everything of a mail that a resend repeats.
-- $1 id uuid: the mail
-- $2 owner text: whose mail it must be, NULL for anybody's
SELECT status, from_address, to_addresses, cc_addresses, bcc_addresses, reply_to, subject, html, text, headers, tags, metadata,
  priority, category, stream, reference_type, reference_id, simulate, group_key, content_removed_at
FROM emails WHERE id = $1 AND ($2::text IS NULL OR owner = $2);
