-- purpose: A person's no to a pending action. Of two who decide at once, one gets a row.
-- $1 id uuid: the action
-- $2 decided_by text: who
-- $3 comment text: why, or NULL
UPDATE actions SET status = 'rejected', decided_by = $2, decided_at = now(), comment = $3,
  reason = coalesce('rejected: ' || $3, 'rejected')
WHERE id = $1 AND status = 'pending' AND expires_at > now()
RETURNING project_id
