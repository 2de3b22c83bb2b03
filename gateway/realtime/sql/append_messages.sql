-- purpose: Give messages the positions that follow their channels' last ones. Channels are locked in order of name until the commit, so that messages become visible in order of position.
-- $1 channels text[]: each once
-- $2 counts int[]: how many messages each gets
-- $3 watched boolean[]: true writes nothing unless somebody has listened to the channel lately
-- $4 doubt bigint: microseconds; a channel last written before that begins anew
-- $5 of text[]: the channel of each message
-- $6 ordinals int[]: its place among those of its channel, from 1
-- $7 bodies text[]: the messages
WITH clock AS (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us),
moved AS (
  INSERT INTO realtime_channels AS c (channel, last, added, doubt)
  SELECT g.channel, clock.now_us - 1 + g.n, g.n, $4
  FROM unnest($1::text[], $2::int[], $3::boolean[]) AS g (channel, n, watched), clock
  WHERE NOT g.watched OR EXISTS (SELECT FROM realtime_channels o WHERE o.channel = g.channel)
  ORDER BY g.channel
  ON CONFLICT (channel) DO UPDATE SET
    last = CASE WHEN extract(epoch FROM c.written_at) * 1000000 < excluded.doubt
      THEN greatest(c.last + 1 + excluded.added, excluded.last) ELSE c.last + excluded.added END,
    added = excluded.added, doubt = excluded.doubt, written_at = clock_timestamp(), touched_at = clock_timestamp()
  RETURNING channel, last, added
),
written AS (
  INSERT INTO realtime_messages (channel, seq, body)
  SELECT m.channel, moved.last - moved.added + m.ordinal, m.body
  FROM unnest($5::text[], $6::int[], $7::text[]) AS m (channel, ordinal, body) JOIN moved USING (channel)
)
SELECT channel, last - added + 1 AS first FROM moved;
