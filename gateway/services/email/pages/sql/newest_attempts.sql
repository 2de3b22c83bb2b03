-- purpose: The last attempts to send a mail, newest first.
-- $1 id uuid: the mail
-- $2 limit bigint: most rows
SELECT attempt, worker, transport, started_at, finished_at, outcome, code, reply
FROM email_attempts WHERE email_id = $1 ORDER BY fence DESC LIMIT $2;
