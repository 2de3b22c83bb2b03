-- purpose: hold a conversation that is to be deleted. Not FOR UPDATE: who writes a message twice in one transaction has
-- purpose: PostgreSQL look at its conversation, holding the message that the deletion wants next
-- $1 id uuid: its id
-- $2 owner text: Principal.id
SELECT id FROM conversations WHERE id = $1 AND owner = $2 FOR NO KEY UPDATE
