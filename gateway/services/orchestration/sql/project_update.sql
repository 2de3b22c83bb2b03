-- purpose: Give a project new values.
-- $1 id uuid: the project
-- $2 name text: for people
-- $3 repository text: owner/name, or NULL
-- $4 facts jsonb: what every agent is told
-- $5 monthly_budget_micros bigint: millionths of a US dollar, or NULL
-- $6 archived boolean: it takes no new runs
UPDATE projects
SET name = $2, repository = $3, facts = $4, monthly_budget_micros = $5, updated_at = now(),
  archived_at = CASE WHEN $6 THEN coalesce(archived_at, now()) END
WHERE id = $1
RETURNING id, name, repository, facts, monthly_budget_micros, created_by, created_at, updated_at, archived_at
