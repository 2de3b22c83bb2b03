-- purpose: begin a conversation
-- $1 id uuid: its id
-- $2 owner text: Principal.id
-- $3 title text: the beginning of its first question
INSERT INTO conversations (id, owner, title) VALUES ($1, $2, $3)
