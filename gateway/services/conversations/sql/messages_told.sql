-- purpose: the end of these was told
-- $1 ids uuid[]: the messages
-- $2 statuses text[]: what was told of each
UPDATE messages m SET told = x.status FROM unnest($1::uuid[], $2::text[]) AS x(id, status)
WHERE m.id = x.id AND m.id = ANY ($1) AND m.status = x.status
