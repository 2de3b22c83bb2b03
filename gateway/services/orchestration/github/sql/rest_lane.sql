-- purpose: A lane makes no calls for a while; a longer rest that was told before stays.
-- $1 lane text: API and token
-- $2 after_s float8: seconds
-- $3 reason text: in GitHub's words
INSERT INTO github_lanes AS l (lane, rests_until, reason) VALUES ($1, now() + make_interval(secs => $2), $3)
ON CONFLICT (lane) DO UPDATE SET rests_until = excluded.rests_until, reason = excluded.reason
WHERE l.rests_until < excluded.rests_until;
