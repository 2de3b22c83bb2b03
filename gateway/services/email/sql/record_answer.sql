-- purpose: Keep what the server said to one attempt, for the mail and for each recipient, before anybody relies on it.
-- $1 id uuid: the mail
-- $2 fence bigint: of the job's claim
-- $3 outcome text: sent, retry, rejected, paused or unknown
-- $4 code smallint: the reply that decided, NULL when there was none
-- $5 reply text: its words, or what happened to the connection
-- $6 addresses text[]: recipients that were answered
-- $7 statuses text[]: accepted, rejected, or pending when the answer was "later"
-- $8 codes smallint[]: reply codes
-- $9 replies text[]: their words
-- A recipient once accepted stays so: a later or stale attempt cannot take it back.
WITH answer AS (
  SELECT * FROM unnest($6::text[], $7::text[], $8::smallint[], $9::text[]) AS a (address, status, code, reply)
), recipient AS (
  UPDATE email_recipients r SET status = a.status, code = a.code, reply = a.reply, at = now()
  FROM answer a WHERE r.email_id = $1 AND r.address = a.address AND r.status <> 'accepted'
), attempt AS (
  UPDATE email_attempts SET finished_at = clock_timestamp(), outcome = $3, code = $4, reply = $5
  WHERE email_id = $1 AND fence = $2
), rejection AS (
  INSERT INTO email_events (email_id, type, detail)
  SELECT $1, 'rejected', jsonb_strip_nulls(jsonb_build_object('recipient', address, 'code', code, 'reply', reply))
  FROM answer WHERE status = 'rejected'
), success AS (
  INSERT INTO email_events (email_id, type, detail)
  SELECT $1, 'sent', jsonb_strip_nulls(jsonb_build_object('code', $4::smallint, 'reply', $5::text)) WHERE $3 = 'sent'
)
UPDATE emails SET
  status = CASE WHEN $3 = 'sent' THEN 'sent' ELSE status END,
  error = CASE WHEN $3 = 'sent' THEN NULL ELSE error END,
  uncertain = uncertain OR $3 = 'unknown',
  sent_at = CASE WHEN EXISTS (SELECT FROM answer WHERE status = 'accepted') THEN coalesce(sent_at, now()) ELSE sent_at END,
  smtp_reply = CASE WHEN EXISTS (SELECT FROM answer WHERE status = 'accepted') THEN $5 ELSE smtp_reply END,
  updated_at = now()
WHERE id = $1;
