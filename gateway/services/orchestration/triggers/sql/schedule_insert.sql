-- purpose: A schedule of runs; answers nothing when the project has one for this agent already.
-- $1 id uuid: its id
-- $2 project_id uuid: whose runs
-- $3 agent_slug text: the one agent; NULL: a batch
-- $4 preset text: what its cron expression was made of; NULL: it was given
-- $5 hour smallint: of the preset
-- $6 cron text: five fields
-- $7 time_zone text: IANA
-- $8 window_from time: on the wall; NULL: any time
-- $9 window_to time: not after this
-- $10 window_days smallint[]: on which it opens, 1 is Monday
-- $11 min_interval_minutes integer: between two runs
-- $12 max_runs_per_day integer: of a day in the time zone
-- $13 cooldown_minutes integer: after a run that failed
-- $14 enabled boolean: whether its ticks come
-- $15 caller text: who made it
INSERT INTO run_schedules (id, project_id, agent_slug, preset, hour, cron, time_zone, window_from, window_to, window_days,
  min_interval_minutes, max_runs_per_day, cooldown_minutes_after_error, enabled, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (project_id, coalesce(agent_slug, '')) DO NOTHING
RETURNING id
