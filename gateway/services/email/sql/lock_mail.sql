-- purpose: Hold a mail still and see how its job stands.
-- $1 id uuid: the mail
SELECT e.job_id, j.state AS job_state, j.priority, j.seq, e.tags, e.group_key,
  CASE WHEN e.status IN ('scheduled', 'pending')
    AND NOT EXISTS (SELECT FROM email_attempts a WHERE a.email_id = e.id) THEN e.expires_at END AS expires_at
FROM emails e LEFT JOIN jobs j ON j.id = e.job_id
WHERE e.id = $1 FOR UPDATE OF e;
