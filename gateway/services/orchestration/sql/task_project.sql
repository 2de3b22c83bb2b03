-- purpose: Whose a task is.
-- $1 id uuid: the task
SELECT project_id FROM tasks WHERE id = $1
