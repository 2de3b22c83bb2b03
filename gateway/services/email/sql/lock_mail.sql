-- purpose: Hold a mail still and see how its job stands.
-- $1 id uuid: the mail
SELECT e.job_id, j.state AS job_state, j.priority, j.seq
FROM emails e LEFT JOIN jobs j ON j.id = e.job_id
WHERE e.id = $1 FOR UPDATE OF e;
