-- purpose: accept work on many jobs
-- $1 id uuid: its id
-- $2 action text: retry, cancel, delete or promote
-- $3 queue text: whose jobs
-- $4 filter jsonb: which ones
-- $5 ids uuid[]: the jobs that were named instead, newest first; NULL = by filter
-- $6 reason text: why, for people
-- $7 total bigint: how many match now
-- $8 actor text: who asks
INSERT INTO operations (id, action, queue, filter, ids, reason, total, actor)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING id, action, queue, filter, reason, state, total, done, failed, error, actor, created_at, updated_at, finished_at
