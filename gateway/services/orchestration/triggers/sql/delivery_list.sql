-- purpose: The last deliveries that a trigger acted upon or remembers, newest first.
-- $1 trigger_id uuid: whose
-- $2 limit bigint: how many
SELECT delivery_id, event, run_id, skip_reason, at FROM webhook_deliveries WHERE trigger_id = $1 ORDER BY id DESC LIMIT $2
