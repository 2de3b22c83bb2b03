-- purpose: Take a replaced policy back; the built-in one holds again.
-- $1 id uuid: the row
DELETE FROM action_configs WHERE id = $1 RETURNING id
