-- purpose: how many starts are in the rate limit's window now, as `open_gate` counts them
-- $1 queue text: its name
-- $2 window_ms double precision: length of the window
SELECT coalesce(sum(s.n), 0)::bigint
FROM queues, unnest(start_times, start_counts) AS s(at, n)
WHERE name = $1 AND s.at > now() - $2 * interval '1 millisecond' AND s.at <= now() + interval '1 second'
