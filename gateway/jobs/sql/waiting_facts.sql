-- purpose: what may hold a queue's jobs back: its pause, and the rate limit's window as `open_gate` reads it
-- $1 queue text: its name
-- $2 rate_max bigint: starts in a window over all replicas; NULL = no limit
-- $3 window_ms double precision: length of that window; NULL = no limit
SELECT now() AS now, paused_at, paused_until, pause_reason,
  (SELECT CASE WHEN sum(s.n) >= $2 THEN min(s.at) + $3 * interval '1 millisecond' END
   FROM unnest(start_times, start_counts) AS s(at, n)
   WHERE s.at > now() - $3 * interval '1 millisecond' AND s.at <= now() + interval '1 second') AS limited_until,
  EXISTS (SELECT FROM jobs WHERE queue = $1 AND state = 'waiting' AND NOT blocked)
    OR NOT EXISTS (SELECT FROM jobs WHERE queue = $1 AND state = 'waiting' AND blocked) AS ready
FROM queues WHERE name = $1
