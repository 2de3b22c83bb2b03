-- purpose: a new job that repeats one that failed or was cancelled, with another argument; the old one stays as it is
-- $1 id uuid: the new job's
-- $2 of uuid: the job that it repeats
-- $3 args jsonb: the new argument
-- $4 max_attempts integer: attempts in total
INSERT INTO jobs (id, queue, task, state, args, priority, max_attempts, dedupe_key, group_key, tags, replay_of)
SELECT $1, queue, task, 'waiting', $3, priority, $4, dedupe_key, group_key, tags, id
FROM jobs WHERE id = $2 AND state || '' IN ('failed', 'cancelled')
RETURNING id, queue, state, priority, seq, group_key
