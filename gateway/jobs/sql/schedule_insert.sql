-- purpose: a new schedule; no row means that its name is taken
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
-- $16 next_at timestamptz: its first tick; NULL = none
INSERT INTO schedules (name, queue, task, args, tick_arg, priority, cron, time_zone, every_s, start_at, end_at, missed,
                       missed_max, overlap, anchor_at, next_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
ON CONFLICT (name) DO NOTHING
RETURNING *
