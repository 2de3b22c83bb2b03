-- purpose: one message of the caller, as it stands now
-- $1 id uuid: the message's
-- $2 owner text: Principal.id
SELECT * FROM messages_now WHERE id = $1 AND owner = $2
