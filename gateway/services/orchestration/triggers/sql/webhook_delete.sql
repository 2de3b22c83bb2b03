-- purpose: Delete a webhook trigger; its runs stay.
-- $1 id uuid: its id
DELETE FROM webhook_triggers WHERE id = $1 RETURNING id
