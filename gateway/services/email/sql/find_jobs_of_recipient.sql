-- purpose: Jobs of the newest mails to an address, below an id. A mail's id is older than its job's, so none is left out.
-- $1 recipient text: bare address that stands in to, cc or bcc, in lower case
-- $2 below uuid: ids of mails below it
-- $3 limit bigint: most rows
SELECT e.job_id FROM email_recipients r JOIN emails e ON e.id = r.email_id
WHERE lower(r.address) = $1 AND r.email_id < $2
ORDER BY r.email_id DESC LIMIT $3;
