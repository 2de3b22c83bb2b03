-- purpose: this replica has stopped; those that vanished an hour ago are forgotten with it
-- $1 id text: the replica
DELETE FROM replicas WHERE id = $1 OR seen_at < now() - interval '1 hour'
