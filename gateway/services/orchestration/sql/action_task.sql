-- purpose: Make the task that an action wants; made twice it is made once.
-- $1 action_id uuid: the action, which gives the task its id
-- $2 title text: one line
-- $3 detail text: more
-- $4 priority int: 1 to 10
INSERT INTO tasks (id, project_id, run_id, title, detail, priority)
SELECT a.id, a.project_id, a.run_id, $2, $3, $4 FROM actions a WHERE a.id = $1
ON CONFLICT (id) DO NOTHING
