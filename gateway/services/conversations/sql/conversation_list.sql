-- purpose: a page of the caller's conversations, newest first
-- $1 owner text: Principal.id
-- $2 before uuid: the last one of the page before; NULL = the first page
-- $3 limit integer: most rows
SELECT id, title, created_at, updated_at FROM conversations
WHERE owner = $1 AND ($2::uuid IS NULL OR id < $2)
ORDER BY id DESC LIMIT $3
