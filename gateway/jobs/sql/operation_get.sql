-- purpose: one operation
-- $1 id uuid: its id
SELECT id, action, queue, filter, reason, state, total, done, failed, error, actor, created_at, updated_at, finished_at
FROM operations WHERE id = $1
