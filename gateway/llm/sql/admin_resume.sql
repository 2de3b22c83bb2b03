-- purpose: open a provider's lane, whatever closed it, and forget its failures
-- $1 provider text: whose lane
UPDATE model_lanes
SET paused_until = NULL, kind = NULL, reason = NULL, rests = 0, failures = 0, turn = turn + 1, updated_at = now()
WHERE provider = $1
