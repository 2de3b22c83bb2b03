-- purpose: An earlier delivery with the same id or the same signature.
-- $1 trigger_id uuid: whose
-- $2 delivery_id text: the sender's; NULL: it named none
-- $3 signature bytea: what tells it from others
SELECT run_id, skip_reason FROM webhook_deliveries
WHERE trigger_id = $1 AND (signature = $3 OR delivery_id = $2)
ORDER BY id LIMIT 1
