-- purpose: what came of a duty's run; nothing when another replica has taken it over
-- $1 id bigint: the run
-- $2 replica text: who did it
-- $3 rows bigint: how many it took or wrote; NULL: it failed
-- $4 error text: why it failed, or NULL
UPDATE maintenance_runs SET finished_at = now(), rows = $3, error = $4
WHERE id = $1 AND replica = $2 AND finished_at IS NULL
