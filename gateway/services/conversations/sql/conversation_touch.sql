-- purpose: hold a conversation that gets another question; nothing when it is not the caller's
-- $1 id uuid: its id
-- $2 owner text: Principal.id
UPDATE conversations SET updated_at = clock_timestamp() WHERE id = $1 AND owner = $2 RETURNING id
