-- purpose: Change a replaced policy.
-- $1 id uuid: the row
-- $2 enabled boolean: whether agents may at all
-- $3 requires_approval boolean: whether a person decides
-- $4 risk text: low, medium or high
-- $5 max_per_hour int: starts in an hour
-- $6 max_per_day int: starts in a day
-- $7 cooldown_s int: seconds between starts
-- $8 updated_by text: who
UPDATE action_configs SET enabled = $2, requires_approval = $3, risk = $4, max_per_hour = $5, max_per_day = $6,
  cooldown_s = $7, updated_by = $8, updated_at = now()
WHERE id = $1
RETURNING id, project_id, action, enabled, requires_approval, risk, max_per_hour, max_per_day, cooldown_s, updated_by,
  updated_at
