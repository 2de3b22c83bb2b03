-- purpose: hold a conversation that is to be deleted
-- $1 id uuid: its id
-- $2 owner text: Principal.id
SELECT id FROM conversations WHERE id = $1 AND owner = $2 FOR UPDATE
