-- purpose: start jobs of a queue again
-- $1 queue text: its name
UPDATE queues SET paused_at = NULL, paused_until = NULL, pause_reason = NULL, updated_at = now() WHERE name = $1
RETURNING name
