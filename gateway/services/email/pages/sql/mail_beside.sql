-- purpose: What stands beside a mail: how large its bodies are, how its job stands, which mails repeat it.
-- $1 id uuid: the mail
SELECT coalesce((SELECT sum(length(a.content)) FROM email_attachments a WHERE a.email_id = e.id), 0)::bigint AS files_bytes,
  octet_length(e.html) AS html_bytes, octet_length(e.text) AS text_bytes, e.smtp_reply, e.content_removed_at,
  j.state AS job_state,
  ARRAY(SELECT r.id FROM emails r WHERE r.resend_of = e.id ORDER BY r.created_at DESC LIMIT 20) AS resends
FROM emails e LEFT JOIN jobs j ON j.id = e.job_id WHERE e.id = $1;
