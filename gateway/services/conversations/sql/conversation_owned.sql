-- purpose: is this conversation the caller's?
-- $1 id uuid: its id
-- $2 owner text: Principal.id
SELECT true FROM conversations WHERE id = $1 AND owner = $2
