-- purpose: Keep the outcome that a test mail asked for, as if a server and a provider had reported it.
-- $1 id uuid: the mail
-- $2 fence bigint: of the job's claim
-- $3 status text: delivered, bounced or complained
WITH recipient AS (
  UPDATE email_recipients SET status = CASE WHEN $3 = 'bounced' THEN 'rejected' ELSE 'accepted' END, at = now()
  WHERE email_id = $1
), attempt AS (
  UPDATE email_attempts SET finished_at = clock_timestamp(), outcome = 'sent', reply = 'simulated'
  WHERE email_id = $1 AND fence = $2
), event AS (
  INSERT INTO email_events (email_id, type, detail)
  SELECT $1::uuid, type, '{"simulated": true}' FROM unnest(ARRAY['sent', $3::text]) WITH ORDINALITY AS t (type, n) ORDER BY n
)
UPDATE emails SET status = $3, sent_at = now(), updated_at = now() WHERE id = $1;
