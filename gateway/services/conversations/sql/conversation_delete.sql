-- purpose: delete a conversation and all that belongs to it
-- $1 id uuid: its id
DELETE FROM conversations WHERE id = $1
