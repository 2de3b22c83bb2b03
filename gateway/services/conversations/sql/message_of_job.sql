-- purpose: the caller's message whose job this is
-- $1 job_id uuid: as the caller was told
-- $2 owner text: Principal.id
SELECT * FROM messages_now WHERE job_id = $1 AND owner = $2
