-- purpose: Of a run that is not wanted any more, ask for nothing and start nothing.
-- $1 run_id uuid: the run
-- $2 reason text: why
-- $3 decided_by text: who ended it
UPDATE actions SET status = 'rejected', reason = $2, decided_by = $3, decided_at = now()
WHERE run_id = $1 AND status IN ('pending', 'approved')
RETURNING id, run_id, project_id, status
