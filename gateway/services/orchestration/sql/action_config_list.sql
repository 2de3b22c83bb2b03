-- purpose: What replaces the built-in policies of a project.
-- $1 project_id uuid: the project
SELECT id, project_id, action, enabled, requires_approval, risk, max_per_hour, max_per_day, cooldown_s, updated_by,
  updated_at
FROM action_configs WHERE project_id = $1 ORDER BY action
