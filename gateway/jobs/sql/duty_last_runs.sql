-- purpose: the newest run of each duty
-- From one duty to the next by the index: there are some fifteen, and of some of them tens of thousands of rows.
WITH RECURSIVE duties AS (
  (SELECT duty FROM maintenance_runs ORDER BY duty LIMIT 1)
  UNION ALL
  SELECT (SELECT m.duty FROM maintenance_runs m WHERE m.duty > d.duty ORDER BY m.duty LIMIT 1) FROM duties d WHERE d.duty IS NOT NULL
)
SELECT r.id, r.duty, r.tick, r.replica, r.tries, r.started_at, r.finished_at, r.rows, r.error
FROM duties d CROSS JOIN LATERAL (SELECT * FROM maintenance_runs m WHERE m.duty = d.duty ORDER BY m.tick DESC LIMIT 1) r
