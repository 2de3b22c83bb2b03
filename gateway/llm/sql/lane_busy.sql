-- purpose: a provider said "too many": its lane rests, once for the calls of one moment, and as long as the longest asks
-- $1 provider text: whose lane
-- $2 turn bigint: that the call was made in
-- $3 after_s double precision: what it asked for; NULL = a default that doubles with each rest in a row
-- $4 first_s double precision: the first default
-- $5 most_s double precision: the longest default
-- $6 reason text: for people
UPDATE model_lanes
SET paused_until = CASE
      WHEN $3::float8 IS NOT NULL THEN greatest(paused_until, now() + $3::float8 * interval '1 second')
      WHEN turn = $2 THEN greatest(
        paused_until, now() + least($5::float8, $4::float8 * 2 ^ least(rests, 30)) * interval '1 second')
      ELSE paused_until END,
    kind = CASE WHEN kind = 'by_hand' AND paused_until > now() THEN kind ELSE 'rate_limited' END,
    reason = CASE WHEN kind = 'by_hand' AND paused_until > now() THEN reason ELSE $6 END,
    rests = rests + (turn = $2)::integer,
    turn = turn + (turn = $2)::integer,
    updated_at = now()
WHERE provider = $1
RETURNING extract(epoch FROM least(paused_until, now() + interval '1 hour') - now())::float8 AS wait_s
