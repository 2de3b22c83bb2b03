-- purpose: Who belongs to a project.
-- $1 project_id uuid: the project
SELECT principal, role, added_at FROM project_members WHERE project_id = $1 ORDER BY role DESC, principal
