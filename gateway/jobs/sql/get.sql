-- purpose: one job, whole
-- $1 id uuid: its id
SELECT id, queue, task, state, args, priority, attempts, max_attempts, stalls, run_at, created_at, claimed_at, finished_at,
       lease_until, worker, result, error, errors, dedupe_key, group_key, blocked, expires_at, tags,
       request_id, traceparent
FROM jobs WHERE id = $1
