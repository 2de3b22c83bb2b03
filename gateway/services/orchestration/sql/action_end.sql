-- purpose: Say how an approved action ended, unless it has.
-- $1 id uuid: the action
-- $2 status text: executed, failed or refused
-- $3 reason text: why it was not executed; NULL: as decided
-- $4 outcome jsonb: what came of it; NULL: as noted before
UPDATE actions SET status = $2, reason = coalesce($3, reason), outcome = coalesce($4, outcome)
WHERE id = $1 AND status IN ('approved', 'executing')
RETURNING project_id
