-- purpose: Record that an attempt begins, before anything is said to a server, and read what it needs.
-- $1 id uuid: the mail
-- $2 fence bigint: of the job's claim
-- $3 attempt int: from 1
-- $4 transport text: where the mail goes, like smtp
-- Recorded only while somebody still has to be sent to, and once for each claim. An earlier attempt that never said how
-- it ended died with its process or connection: the mail may have arrived, so it is called unknown now (invariant C).
WITH pending AS (
  SELECT array_agg(r.address ORDER BY r.position) AS addresses
  FROM email_recipients r WHERE r.email_id = $1 AND r.status = 'pending'
), lost AS (
  UPDATE email_attempts SET outcome = 'unknown', finished_at = now(), reply = 'the attempt was interrupted'
  WHERE email_id = $1 AND fence < $2 AND outcome IS NULL
  RETURNING fence
), marked AS (
  UPDATE emails SET uncertain = true WHERE id = $1 AND NOT uncertain AND EXISTS (SELECT FROM lost)
), started AS (
  INSERT INTO email_attempts (email_id, fence, attempt, worker, transport)
  SELECT e.id, $2, $3, coalesce(j.worker, ''), $4
  FROM emails e LEFT JOIN jobs j ON j.id = e.job_id CROSS JOIN pending
  WHERE e.id = $1 AND pending.addresses IS NOT NULL
  ON CONFLICT (email_id, fence) DO NOTHING
)
SELECT e.id, e.from_address, e.to_addresses, e.cc_addresses, e.reply_to, e.subject, e.html, e.text, e.headers,
  e.simulate, e.message_id, e.created_at, e.sent_at, coalesce(pending.addresses, '{}') AS pending,
  EXISTS (SELECT FROM email_attachments a WHERE a.email_id = e.id) AS has_attachments
FROM emails e CROSS JOIN pending WHERE e.id = $1;
