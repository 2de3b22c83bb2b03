-- purpose: a page of a queue's jobs, newest first (ids are time-ordered)
-- $1 queue text: its name
-- $2 states text[]: empty = all
-- $3 before uuid: the last id of the page before; NULL = from the newest
-- $4 limit bigint: page size
SELECT id, queue, task, state, args, priority, attempts, max_attempts, stalls, run_at, created_at, claimed_at, finished_at,
       lease_until, worker, result, error, errors, dedupe_key, group_key, blocked, expires_at, tags
FROM jobs
WHERE queue = $1 AND (cardinality($2::text[]) = 0 OR state = ANY ($2::text[])) AND ($3::uuid IS NULL OR id < $3)
ORDER BY id DESC LIMIT $4
