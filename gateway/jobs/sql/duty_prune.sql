-- purpose: delete runs of duties of long ago
-- $1 age_s double precision: seconds since they began
-- $2 limit bigint: at most so many
DELETE FROM maintenance_runs WHERE id = ANY (ARRAY(
  SELECT id FROM maintenance_runs WHERE started_at < now() - $1 * interval '1 second' LIMIT $2))
