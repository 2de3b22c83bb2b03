-- purpose: What all projects that have a budget and are not archived have spent this month (UTC).
SELECT p.id AS project_id, p.name, p.monthly_budget_micros AS budget_micros,
  (SELECT coalesce(sum(s.cost_micros), 0)::bigint FROM run_steps s
   WHERE s.project_id = p.id AND s.started_at >= date_trunc('month', now(), 'UTC')) AS spent_micros,
  date_trunc('month', now(), 'UTC') + interval '1 month' AS resets_at
FROM projects p
WHERE p.monthly_budget_micros IS NOT NULL AND p.archived_at IS NULL
