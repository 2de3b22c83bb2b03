-- purpose: forget replicas that fell silent long ago; those that stop in order take their row along
-- $1 silent_s double precision: seconds since their last sign of life
-- $2 limit bigint: at most so many
DELETE FROM replicas WHERE id = ANY (ARRAY(
  SELECT id FROM replicas WHERE seen_at < now() - $1 * interval '1 second' LIMIT $2))
