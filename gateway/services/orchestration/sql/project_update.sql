-- purpose: Change what is named of a project; one statement, so that two changes of different fields both stay.
-- $1 id uuid: the project
-- $2 changes jsonb: any of name, repository, facts, monthly_budget_micros, archived
UPDATE projects
SET name = coalesce($2::jsonb ->> 'name', name),
  repository = CASE WHEN $2 ? 'repository' THEN $2 ->> 'repository' ELSE repository END,
  facts = coalesce($2 -> 'facts', facts),
  monthly_budget_micros = CASE WHEN $2 ? 'monthly_budget_micros' THEN ($2 ->> 'monthly_budget_micros')::bigint
    ELSE monthly_budget_micros END,
  archived_at = CASE WHEN NOT $2 ? 'archived' THEN archived_at
    WHEN ($2 ->> 'archived')::boolean THEN coalesce(archived_at, now()) END,
  updated_at = now()
WHERE id = $1
RETURNING id, name, repository, facts, monthly_budget_micros, created_by, created_at, updated_at, archived_at
