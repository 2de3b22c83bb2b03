-- purpose: let a schedule go on, or stop it; no row means that somebody else changed it since it was read
-- $1 name text: its name
-- $2 enabled bool: does it go on?
-- $3 reason text: why it does not
-- $4 next_at timestamptz: its next tick when it goes on; NULL = none
-- $5 revision bigint: as it was read
UPDATE schedules SET
  enabled = $2, disabled_reason = $3, next_at = CASE WHEN $2 THEN $4 ELSE next_at END,
  revision = revision + 1, updated_at = now()
WHERE name = $1 AND revision = $5
RETURNING *
