-- purpose: Say how far a task is.
-- $1 id uuid: the task
-- $2 status text: open, in_progress, done or dropped
UPDATE tasks SET status = $2, updated_at = now() WHERE id = $1
RETURNING id, project_id, run_id, title, detail, priority, status, created_at, updated_at
