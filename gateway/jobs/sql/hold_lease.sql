-- purpose: become, or stay, the holder of a named lease; no row means that somebody else holds it
-- $1 name text: of the lease
-- $2 holder text: who asks
-- $3 ttl_s double precision: seconds from now
INSERT INTO leases (name, holder, until) VALUES ($1, $2, now() + $3 * interval '1 second')
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
  WHERE leases.holder = excluded.holder OR leases.until < now()
RETURNING holder
