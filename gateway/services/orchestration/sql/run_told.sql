-- purpose: The ends of these runs were told, unless they have begun anew meanwhile.
-- $1 ids uuid[]: the runs
-- $2 statuses text[]: what was told of each
WITH held AS MATERIALIZED (
  SELECT id FROM runs WHERE id = ANY ($1) FOR UPDATE SKIP LOCKED
)
UPDATE runs r SET told = x.status
FROM unnest($1::uuid[], $2::text[]) AS x(id, status) JOIN held h ON h.id = x.id
WHERE r.id = x.id AND r.status = x.status
