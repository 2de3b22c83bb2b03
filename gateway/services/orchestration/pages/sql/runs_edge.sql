-- purpose: The last of the runs that "runs_page" looks at; none: it looks at all that there are.
-- $1 project_id uuid: of this project; NULL: of all
-- $2 status text: with this status; NULL: with any
-- $3 before uuid: older than this run
-- $4 look_at bigint: at most so many are looked at
SELECT id FROM (
    (SELECT id FROM runs
     WHERE $1::uuid IS NOT NULL AND project_id = $1 AND id < $3 ORDER BY id DESC LIMIT $4)
    UNION ALL
    (SELECT id FROM runs
     WHERE $1::uuid IS NULL AND $2::text IS NOT NULL AND status = $2 AND id < $3 ORDER BY id DESC LIMIT $4)
    UNION ALL
    (SELECT id FROM runs
     WHERE $1::uuid IS NULL AND $2::text IS NULL AND id < $3 ORDER BY id DESC LIMIT $4)
) AS l
ORDER BY id DESC OFFSET $4 - 1 LIMIT 1
