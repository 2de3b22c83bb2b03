-- purpose: Forget deliveries of long ago: from then on GitHub's could be repeated by who has kept one.
-- $1 age_s double precision: since they came, in seconds
-- $2 limit bigint: how many at once
DELETE FROM webhook_deliveries WHERE id IN (
  SELECT id FROM webhook_deliveries WHERE at < now() - $1 * interval '1 second' LIMIT $2)
