-- purpose: A page of projects, newest first.
-- $1 caller text: whose role is told
-- $2 member text: only what he is a member of; NULL: all
-- $3 archived boolean: archived ones too
-- $4 before uuid: the last project of the page before, or NULL
-- $5 limit int: most rows
SELECT p.id, p.name, p.repository, p.facts, p.monthly_budget_micros, p.created_by, p.created_at, p.updated_at,
  p.archived_at, (SELECT m.role FROM project_members m WHERE m.project_id = p.id AND m.principal = $1) AS role
FROM projects p
WHERE ($2::text IS NULL OR p.id IN (SELECT m.project_id FROM project_members m WHERE m.principal = $2))
  AND ($3 OR p.archived_at IS NULL)
  AND ($4::uuid IS NULL OR p.id < $4)
ORDER BY p.id DESC
LIMIT $5
