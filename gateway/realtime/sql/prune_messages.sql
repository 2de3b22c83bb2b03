-- purpose: Forget messages of channels that nobody touched for long, and of the others those beyond the newest ones.
-- $1 keep double precision: seconds after the last touch
-- $2 most bigint: newest messages of a channel that are kept
WITH old AS (
  DELETE FROM realtime_channels WHERE touched_at < now() - make_interval(secs => $1) RETURNING channel
),
long AS (SELECT channel, last - $2 AS below FROM realtime_channels WHERE channel NOT IN (SELECT channel FROM old))
DELETE FROM realtime_messages m
WHERE m.channel IN (SELECT channel FROM old)
  OR m.seq <= (SELECT below FROM long WHERE long.channel = m.channel);
