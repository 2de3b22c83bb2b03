-- purpose: Record that attempts begin, before anything is said to a server, and read what they need.
-- $1 ids uuid[]: the mails
-- $2 fences bigint[]: of their jobs' claims
-- $3 attempts integer[]: from 1
-- $4 transport text: where the mails go, like smtp
-- Recorded only while somebody still has to be sent to, and once for each claim. An earlier attempt that never said how
-- it ended died with its process or connection: the mail may have arrived, so it is called unknown now (invariant C).
WITH asked AS (
  SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::integer[]) AS x (id, fence, attempt)
), mail AS MATERIALIZED (
  -- Locked, and the recipients too: an answer to the attempt before that is being recorded now is waited for and seen.
  SELECT * FROM emails WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE
), unanswered AS MATERIALIZED (
  SELECT r.email_id, r.address, r.position FROM email_recipients r
  WHERE r.email_id = ANY (ARRAY(SELECT id FROM mail)) AND r.status = 'pending'
  FOR NO KEY UPDATE
), pending AS (
  SELECT email_id AS id, array_agg(address ORDER BY position) AS addresses FROM unanswered GROUP BY email_id
), lost AS (
  UPDATE email_attempts t SET outcome = 'unknown', finished_at = now(), reply = 'the attempt was interrupted'
  FROM asked WHERE t.email_id = ANY ($1::uuid[]) AND t.email_id = asked.id AND t.fence < asked.fence AND t.outcome IS NULL
  RETURNING t.email_id AS id
), marked AS (
  UPDATE emails SET uncertain = true WHERE id = ANY (ARRAY(SELECT id FROM lost)) AND NOT uncertain
), started AS (
  INSERT INTO email_attempts (email_id, fence, attempt, worker, transport)
  SELECT asked.id, asked.fence, asked.attempt, coalesce(j.worker, ''), $4
  FROM asked JOIN pending USING (id) JOIN mail e USING (id) LEFT JOIN jobs j ON j.id = e.job_id
  ORDER BY asked.id
  ON CONFLICT (email_id, fence) DO NOTHING
)
SELECT e.id, e.from_address, e.to_addresses, e.cc_addresses, e.reply_to, e.subject, e.html, e.text, e.headers,
  e.simulate, e.message_id, e.created_at, e.sent_at, coalesce(pending.addresses, '{}') AS pending,
  EXISTS (SELECT FROM email_attachments a WHERE a.email_id = e.id) AS has_attachments
FROM mail e LEFT JOIN pending USING (id);
