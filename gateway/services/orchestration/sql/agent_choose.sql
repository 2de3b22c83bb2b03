-- purpose: Put a project's choice of agents in the place of the one before.
-- $1 project_id uuid: the project
-- $2 slugs text[]: agents
-- $3 enabled boolean[]: whether the project uses each of them
WITH gone AS (
  DELETE FROM project_agents WHERE project_id = $1 AND slug <> ALL ($2::text[])
)
INSERT INTO project_agents (project_id, slug, enabled)
SELECT $1, slug, enabled FROM unnest($2::text[], $3::boolean[]) AS chosen (slug, enabled)
ON CONFLICT (project_id, slug) DO UPDATE SET enabled = excluded.enabled
