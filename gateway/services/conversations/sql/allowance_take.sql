-- purpose: one more message of a caller, if the limit allows it; the row's lock makes it hold over all replicas
-- $1 owner text: Principal.id
-- $2 profile text: chat or deep-research
-- $3 most integer: in any window
-- $4 window_s double precision: its length in seconds
INSERT INTO message_allowances AS a (owner, profile, accepted) VALUES ($1, $2, ARRAY[clock_timestamp()])
ON CONFLICT (owner, profile) DO UPDATE SET accepted = ARRAY(
    SELECT t FROM unnest(a.accepted) t
    WHERE t > clock_timestamp() - $4 * interval '1 second' AND t <= clock_timestamp() + interval '1 second' ORDER BY t
  ) || clock_timestamp()
-- later ones: the clock was set back
WHERE (SELECT count(*) FROM unnest(a.accepted) t
       WHERE t > clock_timestamp() - $4 * interval '1 second' AND t <= clock_timestamp() + interval '1 second') < $3
RETURNING true
