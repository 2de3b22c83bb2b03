-- purpose: What belongs to a run and is not in its row: its project, what its steps called, and the first runs that repeat it.
-- $1 id uuid: the run
-- $2 limit bigint: at most so many of those that repeat it
SELECT p.name AS project, p.monthly_budget_micros, s.calls, s.steps,
  ARRAY(SELECT o.id FROM runs o WHERE o.retry_of = r.id ORDER BY o.id LIMIT $2) AS repeated_by
FROM runs r JOIN projects p ON p.id = r.project_id
CROSS JOIN LATERAL (
  SELECT coalesce(sum(calls), 0)::bigint AS calls, count(*) AS steps FROM run_steps WHERE run_id = r.id) s
WHERE r.id = $1
