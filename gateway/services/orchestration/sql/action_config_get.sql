-- purpose: One replaced policy.
-- $1 id uuid: the row
SELECT id, project_id, action, enabled, requires_approval, risk, max_per_hour, max_per_day, cooldown_s, updated_by,
  updated_at
FROM action_configs WHERE id = $1
