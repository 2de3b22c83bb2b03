-- purpose: end an operation after the chunk that it is at; what is done stays done
-- $1 id uuid: its id
UPDATE operations SET state = 'cancelled', finished_at = now(), updated_at = now()
WHERE id = $1 AND state = 'running'
RETURNING id, action, queue, filter, reason, state, total, done, failed, error, actor, created_at, updated_at, finished_at
