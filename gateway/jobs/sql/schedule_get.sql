-- purpose: one schedule
-- $1 name text: its name
SELECT * FROM schedules WHERE name = $1
