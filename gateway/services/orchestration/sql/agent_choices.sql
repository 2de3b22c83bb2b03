-- purpose: Which agents a project chose; no row: no choice.
-- $1 project_id uuid: the project
SELECT slug, enabled FROM project_agents WHERE project_id = $1
