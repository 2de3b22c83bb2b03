-- purpose: Keep what the server said to attempts, for each mail and each recipient, before anybody relies on it.
-- $1 ids uuid[]: the mails, none twice
-- $2 fences bigint[]: of their jobs' claims
-- $3 outcomes text[]: sent, retry, rejected, paused or unknown
-- $4 codes smallint[]: the reply that decided, NULL when there was none
-- $5 replies text[]: its words, or what happened to the connection
-- $6 recipient_mails uuid[]: the mail of each recipient that was answered
-- $7 addresses text[]: the recipient
-- $8 statuses text[]: accepted, rejected, or pending when the answer was "later"
-- $9 recipient_codes smallint[]: reply codes
-- $10 recipient_replies text[]: their words
-- A recipient once accepted stays so: a later or stale attempt cannot take it back.
WITH told AS (
  SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::smallint[], $5::text[]) AS x (id, fence, outcome, code, reply)
), answer AS (
  SELECT * FROM unnest($6::uuid[], $7::text[], $8::text[], $9::smallint[], $10::text[]) AS x (id, address, status, code, reply)
), recipient AS (
  UPDATE email_recipients r SET status = a.status, code = a.code, reply = a.reply, at = now()
  FROM answer a
  WHERE r.email_id = ANY ($6::uuid[]) AND r.email_id = a.id AND r.address = a.address AND r.status <> 'accepted'
), attempt AS (
  UPDATE email_attempts t SET finished_at = clock_timestamp(), outcome = told.outcome, code = told.code, reply = told.reply
  FROM told WHERE t.email_id = ANY ($1::uuid[]) AND t.email_id = told.id AND t.fence = told.fence
), event AS (
  INSERT INTO email_events (email_id, type, detail)
  SELECT id, 'rejected', jsonb_strip_nulls(jsonb_build_object('recipient', address, 'code', code, 'reply', reply))
  FROM answer WHERE status = 'rejected'
  UNION ALL
  SELECT id, 'sent', jsonb_strip_nulls(jsonb_build_object('code', code, 'reply', reply)) FROM told WHERE outcome = 'sent'
), judged AS (
  SELECT told.*, EXISTS (SELECT FROM answer a WHERE a.id = told.id AND a.status = 'accepted') AS accepted FROM told
)
UPDATE emails e SET
  status = CASE WHEN j.outcome = 'sent' THEN 'sent' ELSE e.status END,
  error = CASE WHEN j.outcome = 'sent' THEN NULL ELSE e.error END,
  uncertain = e.uncertain OR j.outcome = 'unknown',
  sent_at = CASE WHEN j.accepted THEN coalesce(e.sent_at, now()) ELSE e.sent_at END,
  smtp_reply = CASE WHEN j.accepted THEN j.reply ELSE e.smtp_reply END,
  updated_at = now()
FROM judged j WHERE e.id = ANY ($1::uuid[]) AND e.id = j.id;
