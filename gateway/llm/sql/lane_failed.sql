-- purpose: a provider failed: after so many in a row its lane rests, longer each time
-- $1 provider text: whose lane
-- $2 turn bigint: that the call was made in; of an earlier one nothing is counted
-- $3 limit integer: failures in a row at which it rests
-- $4 first_s double precision: the first rest
-- $5 most_s double precision: the longest rest
-- $6 reason text: for people
UPDATE model_lanes
SET failures = failures + 1,
    paused_until = CASE WHEN failures + 1 < $3 THEN paused_until
      ELSE now() + least($5::float8, $4::float8 * 2 ^ least(rests, 30)) * interval '1 second' END,
    kind = CASE WHEN failures + 1 < $3 THEN kind ELSE 'failing' END,
    reason = CASE WHEN failures + 1 < $3 THEN reason ELSE $6 END,
    rests = rests + (failures + 1 >= $3)::integer,
    turn = turn + (failures + 1 >= $3)::integer,
    updated_at = now()
WHERE provider = $1 AND turn = $2
RETURNING failures >= $3 AS rests_now
