-- purpose: What a run has brought: its own suggestions and tasks, and actions that wait for somebody.
-- $1 run_id uuid: the run
SELECT (SELECT count(*) FROM suggestions s WHERE s.run_id = $1) AS suggestions,
  (SELECT count(*) FROM tasks t WHERE t.run_id = $1) AS tasks,
  (SELECT count(*) FROM actions a WHERE a.run_id = $1 AND a.status = 'pending') AS pending_actions
