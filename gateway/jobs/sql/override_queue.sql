-- purpose: replace parts of a queue's policy; a part that is null in the changes is as declared again
-- $1 queue text: its name
-- $2 changes jsonb: fields of QueueOverrides; those that are missing stay as they are
INSERT INTO queue_overrides (queue, changes) VALUES ($1, jsonb_strip_nulls($2))
ON CONFLICT (queue) DO UPDATE
SET changes = jsonb_strip_nulls(queue_overrides.changes || $2), updated_at = now()
