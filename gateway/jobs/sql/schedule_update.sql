-- purpose: change what a schedule is; no row means that somebody else changed it since it was read
-- $1 name text: its name
-- $2 queue text: where its jobs go
-- $3 task text: what they do
-- $4 args jsonb: with which argument
-- $5 tick_arg text: the argument's field that gets the tick's time; NULL = none
-- $6 priority smallint: 0..10, higher first
-- $7 cron text: expression; NULL = by interval
-- $8 time_zone text: IANA name
-- $9 every_s integer: interval in seconds; NULL = by cron
-- $10 start_at timestamptz: no tick before; NULL = none
-- $11 end_at timestamptz: no tick after; NULL = none
-- $12 missed text: skip, once or all
-- $13 missed_max integer: jobs at once for missed ticks, with all
-- $14 overlap text: enqueue or skip
-- $15 anchor_at timestamptz: intervals are counted from here
-- $16 next_at timestamptz: its first tick by the new times
-- $17 retimed bool: the times are new; otherwise its next tick, also one that was missed, stays
-- $18 revision bigint: as it was read
UPDATE schedules SET
  queue = $2, task = $3, args = $4, tick_arg = $5, priority = $6, cron = $7, time_zone = $8, every_s = $9, start_at = $10,
  end_at = $11, missed = $12, missed_max = $13, overlap = $14, anchor_at = $15,
  next_at = CASE WHEN $17 THEN $16 ELSE next_at END,
  revision = revision + 1, updated_at = now()
WHERE name = $1 AND revision = $18
RETURNING *
