-- purpose: stop starting jobs of a queue; what runs goes on
-- $1 queue text: its name
-- $2 until timestamptz: NULL = until somebody resumes
-- $3 reason text: for people
UPDATE queues SET paused_at = now(), paused_until = $2, pause_reason = $3, updated_at = now() WHERE name = $1
RETURNING name
