-- purpose: A page of mails for people, newest first; each filter is off when NULL.
-- $1 status text: status word
-- $2 recipient text: bare address that stands in to, cc or bcc, in lower case
-- $3 tag jsonb: array of one object with name, or name and value
-- $4 since timestamptz: accepted at or after
-- $5 until timestamptz: accepted before
-- $6 before_at timestamptz: the last page's last mail: when it was accepted
-- $7 before_id uuid: and its id
-- $8 newest_id uuid: ids of mails accepted before $6 are below it; ids are ordered by time
-- $9 part text: stands in the subject, is the Message-ID, the reference or the sender's bare address, in lower case
-- $10 most bigint: how many mails are looked at
-- $11 limit bigint: most rows
-- Answers the mails that fit, and the last one looked at. Of an address only its newest mails are looked at.
WITH looked AS (
  SELECT e.id, e.created_at,
    $9::text IS NULL OR strpos(lower(e.subject), $9) > 0 OR lower(e.message_id) = $9 OR lower(e.reference_id) = $9
      OR strpos(lower(e.from_address), $9) > 0 AS fits
  FROM emails e
  WHERE ($1::text IS NULL OR e.status = $1)
    AND ($2::text IS NULL OR e.id = ANY (ARRAY(
      SELECT r.email_id FROM email_recipients r
      WHERE lower(r.address) = $2 AND ($8::uuid IS NULL OR r.email_id < $8) ORDER BY r.email_id DESC LIMIT $10)))
    AND ($3::jsonb IS NULL OR e.tags @> $3)
    AND ($4::timestamptz IS NULL OR e.created_at >= $4)
    AND ($5::timestamptz IS NULL OR e.created_at < $5)
    AND ($6::timestamptz IS NULL OR (e.created_at, e.id) < ($6, $7::uuid))
  ORDER BY e.created_at DESC, e.id DESC
  LIMIT $10
), numbered AS (
  SELECT *, row_number() OVER (ORDER BY created_at DESC, id DESC) AS place, count(*) OVER () AS looked FROM looked
), chosen AS (
  SELECT * FROM numbered WHERE fits OR place = looked ORDER BY place LIMIT $11
)
SELECT c.fits, c.place, c.looked, e.id, e.job_id, e.status, e.from_address, e.to_addresses, e.cc_addresses,
  e.bcc_addresses, e.subject, e.tags, e.resend_of, e.uncertain, e.error, e.created_at, e.updated_at, e.sent_at, e.scheduled_at
FROM chosen c JOIN emails e USING (id) ORDER BY c.place;
