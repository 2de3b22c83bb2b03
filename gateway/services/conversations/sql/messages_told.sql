-- purpose: the end of these was told
-- $1 ids uuid[]: the messages
-- $2 statuses text[]: what was told of each
WITH held AS MATERIALIZED (
  SELECT id FROM messages WHERE id = ANY ($1) FOR UPDATE SKIP LOCKED
)
UPDATE messages m SET told = x.status
FROM unnest($1::uuid[], $2::text[]) AS x(id, status) JOIN held h ON h.id = x.id
WHERE m.id = x.id AND m.status = x.status
