-- purpose: Delete a schedule of runs; its runs stay.
-- $1 id uuid: its id
DELETE FROM run_schedules WHERE id = $1 RETURNING id
