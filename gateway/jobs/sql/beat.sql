-- purpose: this replica is alive; answers whether somebody asked it to take no further job, and to be empty by when
-- $1 id text: the replica
-- $2 role text: all, api or worker
-- $3 version text: of the gateway
-- $4 host text: where it runs
-- $5 pid integer: its process
-- $6 mode text: queue or direct
-- $7 slots jsonb: slots and busy ones by queue
-- $8 draining bool: it takes no new jobs
-- $9 configuration jsonb: its settings that should be the same everywhere
-- $10 vitals jsonb: numbers of how it is
INSERT INTO replicas (id, role, version, host, pid, mode, slots, draining, configuration, vitals)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (id) DO UPDATE SET
  mode = excluded.mode, slots = excluded.slots, draining = excluded.draining, vitals = excluded.vitals, seen_at = now()
RETURNING drain_requested, extract(epoch FROM drain_by - now())::double precision AS within_s
