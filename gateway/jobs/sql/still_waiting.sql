-- purpose: those of these jobs that wait
-- $1 ids uuid[]: jobs
SELECT id, queue, state, priority, seq FROM jobs WHERE id = ANY ($1::uuid[]) AND state || '' = 'waiting'
