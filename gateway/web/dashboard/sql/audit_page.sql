-- purpose: a page of the trail, newest first
-- $1 before bigint: entries before this one; NULL = from the newest
-- $2 limit bigint: how many
SELECT id, at, actor, action, subject, detail, request_id
FROM admin_audit WHERE $1::bigint IS NULL OR id < $1 ORDER BY id DESC LIMIT $2
