-- purpose: a provider answered: its failures and rests are forgotten, if the call began after the last of them
-- $1 provider text: whose lane
-- $2 turn bigint: that the call was made in
UPDATE model_lanes
SET paused_until = NULL, kind = NULL, reason = NULL, rests = 0, failures = 0, updated_at = now()
WHERE provider = $1 AND turn = $2 AND (rests > 0 OR failures > 0)
