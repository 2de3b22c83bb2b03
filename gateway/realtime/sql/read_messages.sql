-- purpose: A channel's messages from a position on, oldest first.
-- $1 channel text: its name
-- $2 since bigint: position, that one included
-- $3 most bigint: most rows
SELECT seq, body FROM realtime_messages WHERE channel = $1 AND seq >= $2 ORDER BY seq LIMIT $3;
