-- purpose: A person's yes to a pending action. Of two who decide at once, one gets a row.
-- $1 id uuid: the action
-- $2 decided_by text: who
-- $3 comment text: why, or NULL
-- $4 arguments jsonb: what shall be done instead of what was asked; NULL: as asked
-- $5 job_id uuid: the job that will do it
UPDATE actions SET status = 'approved', decided_by = $2, decided_at = now(), comment = $3, job_id = $5,
  arguments = coalesce($4, arguments), proposed = CASE WHEN $4::jsonb IS NOT NULL THEN arguments END
WHERE id = $1 AND status = 'pending' AND expires_at > now()
RETURNING project_id
