-- purpose: the newest operations
-- $1 limit bigint: how many
SELECT id, action, queue, filter, reason, state, total, done, failed, error, actor, created_at, updated_at, finished_at
FROM operations ORDER BY id DESC LIMIT $1
