-- purpose: Delete what administrators changed long ago.
-- $1 age_s double precision: seconds since the change
-- $2 limit bigint: at most so many
DELETE FROM admin_audit WHERE id = ANY (ARRAY(
  SELECT id FROM admin_audit WHERE at < now() - $1 * interval '1 second' LIMIT $2))
