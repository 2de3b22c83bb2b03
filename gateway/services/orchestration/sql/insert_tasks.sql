-- purpose: Keep the tasks of a step; those that are there already stay as they are.
-- $1 project_id uuid: whose they are
-- $2 run_id uuid: the run
-- $3 step_id uuid: the step
-- $4 points jsonb: array of {id, position, title, detail, priority}
-- $5 most bigint: tasks that a run may have
INSERT INTO tasks (id, project_id, run_id, step_id, position, title, detail, priority)
SELECT x.id, $1, $2, $3, x.position, x.title, x.detail, x.priority
FROM jsonb_to_recordset($4) AS x(id uuid, position int, title text, detail text, priority int)
ORDER BY x.position
LIMIT greatest(0, $5::bigint - (SELECT count(*) FROM tasks t WHERE t.run_id = $2 AND t.step_id <> $3))
ON CONFLICT (step_id, position) DO NOTHING
RETURNING id
