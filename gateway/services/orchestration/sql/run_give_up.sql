-- purpose: A run that waits for approvals is not wanted any more.
-- $1 id uuid: the run, which the caller holds
-- $2 reason text: why
UPDATE runs SET status = 'cancelled', error = $2, finished_at = clock_timestamp()
WHERE id = $1 AND status = 'awaiting_approval'
RETURNING id
