-- purpose: close a provider's lane by hand; calls under way end as they would
-- $1 provider text: whose lane
-- $2 until timestamptz: NULL = until somebody opens it
-- $3 reason text: for people
UPDATE model_lanes
SET paused_until = coalesce($2, 'infinity'::timestamptz), kind = 'by_hand', reason = $3, turn = turn + 1, updated_at = now()
WHERE provider = $1
