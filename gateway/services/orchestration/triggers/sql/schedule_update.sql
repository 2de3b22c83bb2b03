-- purpose: Give a schedule of runs new values; what it did stays.
-- $1 id uuid: its id
-- $2 agent_slug text: the one agent; NULL: a batch
-- $3 preset text: what its cron expression was made of; NULL: it was given
-- $4 hour smallint: of the preset
-- $5 cron text: five fields
-- $6 time_zone text: IANA
-- $7 window_from time: on the wall; NULL: any time
-- $8 window_to time: not after this
-- $9 window_days smallint[]: on which it opens, 1 is Monday
-- $10 min_interval_minutes integer: between two runs
-- $11 max_runs_per_day integer: of a day in the time zone
-- $12 cooldown_minutes integer: after a run that failed
-- $13 enabled boolean: whether its ticks come
UPDATE run_schedules SET agent_slug = $2, preset = $3, hour = $4, cron = $5, time_zone = $6, window_from = $7, window_to = $8,
  window_days = $9, min_interval_minutes = $10, max_runs_per_day = $11, cooldown_minutes_after_error = $12, enabled = $13,
  revision = revision + 1, updated_at = now()
WHERE id = $1
RETURNING id
