-- purpose: cancel those of these jobs that have not started, so that whoever follows them learns of their end
-- $1 queue text: whose jobs
-- $2 ids uuid[]: jobs
-- $3 reason text: why, for people
UPDATE jobs SET state = 'cancelled', error = $3, finished_at = now()
WHERE id = ANY ($2::uuid[]) AND queue = $1 AND state || '' IN ('waiting', 'delayed')
