-- purpose: The last position of each channel; those without one begin now. Keeps them from being pruned.
-- $1 channels text[]: each once
WITH opened AS (
  INSERT INTO realtime_channels (channel, last, added, doubt)
  SELECT channel, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, 0, 0 FROM unnest($1::text[]) AS g (channel)
  WHERE NOT EXISTS (SELECT FROM realtime_channels o WHERE o.channel = g.channel)
  ORDER BY channel
  ON CONFLICT (channel) DO NOTHING
  RETURNING channel, last
),
touched AS (
  UPDATE realtime_channels SET touched_at = now()
  WHERE channel = ANY ($1) AND touched_at < now() - interval '1 minute'
)
SELECT channel, last FROM opened
UNION ALL
SELECT channel, last FROM realtime_channels WHERE channel = ANY ($1);
