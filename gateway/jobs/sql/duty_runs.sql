-- purpose: a page of the runs of duties, newest first
-- $1 duty text: of this one only; NULL: of all
-- $2 before bigint: the last id of the page before; NULL: from the newest on
-- $3 limit bigint: at most so many
SELECT id, duty, tick, replica, tries, started_at, finished_at, rows, error
FROM maintenance_runs
WHERE ($1::text IS NULL OR duty = $1) AND ($2::bigint IS NULL OR id < $2)
ORDER BY id DESC LIMIT $3
