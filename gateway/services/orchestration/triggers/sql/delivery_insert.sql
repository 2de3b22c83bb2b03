-- purpose: A delivery that was acted upon.
-- $1 id uuid: its id
-- $2 trigger_id uuid: whose
-- $3 delivery_id text: the sender's; NULL: it named none
-- $4 signature bytea: what tells it from others
-- $5 event text: what happened
-- $6 run_id uuid: what was started; NULL: nothing
-- $7 skip_reason text: why nothing was
INSERT INTO webhook_deliveries (id, trigger_id, delivery_id, signature, event, run_id, skip_reason)
VALUES ($1, $2, $3, $4, $5, $6, $7)
