-- purpose: one conversation of the caller
-- $1 id uuid: its id
-- $2 owner text: Principal.id
SELECT id, title, created_at, updated_at FROM conversations WHERE id = $1 AND owner = $2
