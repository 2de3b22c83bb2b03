-- purpose: which of these running jobs somebody wants to end, and why
-- $1 ids uuid[]: what this replica runs
SELECT id, fence, cancel_reason FROM jobs
WHERE id = ANY ($1::uuid[]) AND state || '' = 'active' AND cancel_reason IS NOT NULL
