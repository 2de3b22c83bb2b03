-- purpose: those of these jobs that are ready
-- $1 ids uuid[]: jobs
SELECT id, queue, state, priority, seq, group_key FROM jobs WHERE id = ANY ($1::uuid[]) AND state || '' = 'waiting' AND NOT blocked
