-- purpose: the failed jobs of a queue that failed last
-- $1 queue text: its name
-- $2 limit bigint: how many
SELECT id, queue, task, state, args, priority, attempts, max_attempts, stalls, run_at, created_at, claimed_at, finished_at,
       lease_until, worker, result, error, errors, dedupe_key, group_key, blocked, expires_at, tags
FROM jobs WHERE queue = $1 AND state = 'failed' ORDER BY finished_at DESC, id LIMIT $2
