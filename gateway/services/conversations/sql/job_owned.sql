-- purpose: is this the job of a message of the caller?
-- $1 job_id uuid: as the caller was told
-- $2 owner text: Principal.id
SELECT true FROM messages m JOIN conversations c ON c.id = m.conversation_id WHERE m.job_id = $1 AND c.owner = $2 LIMIT 1
