-- purpose: What came on several channels since each one's position.
-- $1 channels text[]: each once
-- $2 positions bigint[]: seen up to there
-- $3 most bigint: most messages of one channel
SELECT w.channel, m.seq, m.body
FROM unnest($1::text[], $2::bigint[]) AS w (channel, seen)
CROSS JOIN LATERAL (
  SELECT seq, body FROM realtime_messages WHERE channel = w.channel AND seq > w.seen ORDER BY seq LIMIT $3
) m
ORDER BY w.channel, m.seq;
