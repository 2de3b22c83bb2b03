-- purpose: Make a project, and its creator the owner.
-- $1 id uuid: its id
-- $2 name text: for people
-- $3 repository text: owner/name, or NULL
-- $4 facts jsonb: what every agent is told
-- $5 monthly_budget_micros bigint: millionths of a US dollar, or NULL
-- $6 creator text: a principal
WITH made AS (
  INSERT INTO projects (id, name, repository, facts, monthly_budget_micros, created_by)
  VALUES ($1, $2, $3, $4, $5, $6)
  RETURNING id, name, repository, facts, monthly_budget_micros, created_by, created_at, updated_at, archived_at
), owner AS (
  INSERT INTO project_members (project_id, principal, role) SELECT id, created_by, 'owner' FROM made
)
SELECT id, name, repository, facts, monthly_budget_micros, created_by, created_at, updated_at, archived_at, 'owner' AS role FROM made
