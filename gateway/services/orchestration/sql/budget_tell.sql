-- purpose: Record budgets that are nearly or wholly spent; answers those that nobody had recorded yet this month.
-- $1 project_ids uuid[]: whose they are
-- $2 percents smallint[]: of the budget that are spent at least
-- $3 budgets bigint[]: in micros
-- $4 spent bigint[]: in micros
-- $5 resets_at timestamptz: the end of the month
INSERT INTO budget_alerts (project_id, percent, budget_micros, spent_micros, resets_at)
SELECT seen.project_id, seen.percent, seen.budget, seen.spent, $5
FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::bigint[]) AS seen (project_id, percent, budget, spent)
ON CONFLICT DO NOTHING
RETURNING project_id
