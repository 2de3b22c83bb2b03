-- purpose: What a project with a budget has spent this month (UTC); no row: it has no budget.
-- $1 project_id uuid: the project
SELECT p.id AS project_id, p.name, p.monthly_budget_micros AS budget_micros,
  (SELECT coalesce(sum(s.cost_micros), 0)::bigint FROM run_steps s
   WHERE s.project_id = p.id AND s.started_at >= date_trunc('month', now(), 'UTC')) AS spent_micros,
  date_trunc('month', now(), 'UTC') + interval '1 month' AS resets_at
FROM projects p
WHERE p.id = $1 AND p.monthly_budget_micros IS NOT NULL
