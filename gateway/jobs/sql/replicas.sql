-- purpose: the replicas seen lately
-- $1 within_s double precision: seconds
SELECT id, role, version, host, pid, mode, slots, draining OR drain_requested AS draining, started_at, seen_at, configuration,
  vitals
FROM replicas WHERE seen_at > now() - $1 * interval '1 second' ORDER BY started_at, id
