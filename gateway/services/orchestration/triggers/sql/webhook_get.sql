-- purpose: One webhook trigger.
-- $1 id uuid: its id
SELECT * FROM webhook_triggers WHERE id = $1
