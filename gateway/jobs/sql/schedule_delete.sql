-- purpose: delete a schedule; its jobs stay
-- $1 name text: its name
DELETE FROM schedules WHERE name = $1 RETURNING name
