-- purpose: Complete a run that waited for approvals, once nothing of it is to be decided or executed any more.
-- $1 id uuid: the run, which the caller holds
UPDATE runs SET status = 'completed', finished_at = now()
WHERE id = $1 AND status = 'awaiting_approval'
  AND NOT EXISTS (SELECT FROM actions a WHERE a.run_id = $1 AND a.status IN ('pending', 'approved', 'executing'))
RETURNING id
