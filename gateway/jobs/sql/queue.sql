-- purpose: is a queue paused, until when and why
-- $1 queue text: its name
SELECT paused_at IS NOT NULL AND (paused_until IS NULL OR paused_until > now()) AS paused, paused_until, pause_reason
FROM queues WHERE name = $1
