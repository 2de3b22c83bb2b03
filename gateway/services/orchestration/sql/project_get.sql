-- purpose: One project, and the role of who asks.
-- $1 id uuid: the project
-- $2 caller text: whose role is told; NULL: nobody's
SELECT p.id, p.name, p.repository, p.facts, p.monthly_budget_micros, p.created_by, p.created_at, p.updated_at,
  p.archived_at, (SELECT m.role FROM project_members m WHERE m.project_id = p.id AND m.principal = $2) AS role
FROM projects p
WHERE p.id = $1
