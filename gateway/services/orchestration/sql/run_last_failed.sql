-- purpose: The newest run of a project that ended without success.
-- $1 project_id uuid: the project
-- $2 agent_slug text: of this agent alone; NULL: of any
SELECT id FROM runs WHERE project_id = $1 AND status IN ('failed', 'cancelled') AND ($2::text IS NULL OR agent_slug = $2)
ORDER BY id DESC LIMIT 1
