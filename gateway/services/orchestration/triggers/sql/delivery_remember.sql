-- purpose: A delivery that was not acted upon, so that it is known when it comes again. One that is known stays as it is.
-- $1 id uuid: its id
-- $2 trigger_id uuid: whose
-- $3 delivery_id text: the sender's; NULL: it named none
-- $4 signature bytea: what tells it from others
-- $5 event text: what happened
-- $6 skip_reason text: why nothing was started
INSERT INTO webhook_deliveries (id, trigger_id, delivery_id, signature, event, skip_reason)
SELECT $1, id, $3, $4, $5, $6 FROM webhook_triggers WHERE id = $2
ON CONFLICT DO NOTHING
