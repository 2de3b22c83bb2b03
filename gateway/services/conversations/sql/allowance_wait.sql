-- purpose: seconds until the next message of a caller may be accepted
-- $1 owner text: Principal.id
-- $2 profile text: chat or deep-research
-- $3 most integer: in any window
-- $4 window_s double precision: its length in seconds
SELECT extract(epoch FROM t + $4 * interval '1 second' - clock_timestamp())::double precision
FROM message_allowances a, unnest(a.accepted) t
WHERE a.owner = $1 AND a.profile = $2
ORDER BY t DESC OFFSET $3 - 1 LIMIT 1
