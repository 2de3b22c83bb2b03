-- purpose: What agents suggested to a project lately, for their context.
-- $1 project_id uuid: the project
-- $2 limit bigint: at most
SELECT agent_slug, title, priority, status, created_at FROM suggestions
WHERE project_id = $1 ORDER BY id DESC LIMIT $2
