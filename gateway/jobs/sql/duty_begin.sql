-- purpose: take the present tick of a duty; a null id: it is done, somebody does it, or it failed often enough
-- $1 duty text: its name
-- $2 period_s double precision: seconds from one tick to the next
-- $3 offset_s double precision: of the ticks against multiples of the period since 1970
-- $4 replica text: who asks
-- $5 alive_s double precision: a replica lives when it was seen within so many seconds
-- $6 tries_max integer: how often a tick is tried
-- $7 retry_s double precision: seconds from a failure to the next try
-- The row of the tick is the lock: of two that insert it, or take it over, one gets it. A replica does a duty once at a
-- time, so a run that is its own and has no end is over: the ledger was away when that should have been written.
WITH present AS (
  SELECT to_timestamp(floor((extract(epoch FROM now())::double precision - $3) / $2) * $2 + $3) AS tick
), taken AS (
  INSERT INTO maintenance_runs AS r (duty, tick, replica)
  SELECT $1, tick, $4 FROM present
  ON CONFLICT (duty, tick) DO UPDATE
    SET replica = excluded.replica, tries = r.tries + 1, started_at = now(), finished_at = NULL, error = NULL
    WHERE r.tries < $6::integer AND (
      r.error IS NOT NULL AND r.finished_at < now() - $7 * interval '1 second'
      OR r.finished_at IS NULL AND (r.replica = $4 OR NOT EXISTS (
        SELECT FROM replicas a WHERE a.id = r.replica AND a.seen_at > now() - $5 * interval '1 second')))
  RETURNING id
)
SELECT (SELECT id FROM taken) AS id,
  least($7, extract(epoch FROM tick - now())::double precision + $2) AS wait_s
FROM present
