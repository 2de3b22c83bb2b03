-- purpose: the replicas that live, and those that fell silent lately
-- $1 alive_s double precision: seconds after its last sign in which a replica counts as alive
-- $2 within_s double precision: how far back, seconds
SELECT id, role, version, host, pid, mode, slots, draining OR drain_requested AS draining, started_at, seen_at,
  configuration, vitals, seen_at > now() - $1 * interval '1 second' AS alive
FROM replicas WHERE seen_at > now() - $2 * interval '1 second' ORDER BY started_at, id LIMIT 500
