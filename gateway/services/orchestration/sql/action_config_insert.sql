-- purpose: Replace the built-in policy of a kind in a project, unless that was done.
-- $1 id uuid: the row's
-- $2 project_id uuid: the project
-- $3 action text: the kind
-- $4 enabled boolean: whether agents may at all
-- $5 requires_approval boolean: whether a person decides
-- $6 risk text: low, medium or high
-- $7 max_per_hour int: starts in an hour
-- $8 max_per_day int: starts in a day
-- $9 cooldown_s int: seconds between starts
-- $10 updated_by text: who
INSERT INTO action_configs (id, project_id, action, enabled, requires_approval, risk, max_per_hour, max_per_day,
  cooldown_s, updated_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (project_id, action) DO NOTHING
RETURNING id, project_id, action, enabled, requires_approval, risk, max_per_hour, max_per_day, cooldown_s, updated_by,
  updated_at
