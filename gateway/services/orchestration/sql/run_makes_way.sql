-- purpose: Who waits for a slot that a long run could give him: clicks, for which there would be a start.
-- $1 queue text: the queue's name
-- $2 id uuid: the long run
-- $3 priority smallint: from this one on somebody waits in person
-- $4 rate_max integer: starts in a window; NULL: no limit
-- $5 window_ms integer: length of that window; NULL: no limit
-- $6 limit bigint: at most
SELECT w.id FROM jobs w LEFT JOIN runs r ON r.id = w.id
WHERE w.queue = $1 AND w.state = 'waiting' AND w.priority >= $3
  AND coalesce(r.work, r.job_type, '') <> 'batch'  -- long ones do not make way for each other
  AND (w.expires_at IS NULL OR w.expires_at > clock_timestamp())
  AND (NOT w.blocked OR w.group_key = (SELECT own.group_key FROM jobs own WHERE own.id = $2))
  AND (SELECT permits > 0 FROM open_gate($1, 1, $4, $5))
ORDER BY w.priority DESC, w.seq LIMIT $6
