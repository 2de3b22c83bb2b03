-- purpose: Every attempt to send a mail, oldest first.
-- $1 id uuid: the mail
SELECT attempt, worker, transport, started_at, finished_at, outcome, code, reply
FROM email_attempts WHERE email_id = $1 ORDER BY fence;
