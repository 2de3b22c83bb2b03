-- purpose: the providers' lanes
SELECT provider, CASE WHEN paused_until > now() THEN paused_until END AS paused_until, kind, reason, rests, failures
FROM model_lanes ORDER BY provider
