-- purpose: What projects have spent this month (UTC), with a budget or without.
-- $1 project_ids uuid[]: the projects, a page of them
SELECT p.id AS project_id, p.name, p.monthly_budget_micros AS budget_micros,
  (SELECT coalesce(sum(s.cost_micros), 0)::bigint FROM run_steps s
   WHERE s.project_id = p.id AND s.started_at >= date_trunc('month', now(), 'UTC')) AS spent_micros,
  date_trunc('month', now(), 'UTC') + interval '1 month' AS resets_at
FROM projects p
WHERE p.id = ANY ($1::uuid[])
