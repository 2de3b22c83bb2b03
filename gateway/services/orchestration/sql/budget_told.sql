-- purpose: When it was told this month that budgets were nearly or wholly spent; of both, the latter.
-- $1 project_ids uuid[]: whose budgets
SELECT DISTINCT ON (project_id, budget_micros) project_id, budget_micros, told_at FROM budget_alerts
WHERE resets_at > now() AND project_id = ANY ($1::uuid[]) ORDER BY project_id, budget_micros, percent DESC
