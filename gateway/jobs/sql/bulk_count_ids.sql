-- purpose: how many of these jobs belong to a queue and stand in one of these states
-- $1 queue text: its name
-- $2 ids uuid[]: jobs
-- $3 states text[]: theirs
SELECT count(*) FROM jobs WHERE queue = $1 AND id = ANY ($2::uuid[]) AND state || '' = ANY ($3::text[])
