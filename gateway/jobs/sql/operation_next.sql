-- purpose: the running operation that has rested longest
SELECT id, action, queue, filter, reason, state, total, done, failed, error, actor, created_at, updated_at, finished_at, ids, position
FROM operations WHERE state = 'running' ORDER BY updated_at LIMIT 1
