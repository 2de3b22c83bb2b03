-- purpose: Count a tick as a run; of several replicas one has its way, and none goes beyond what is allowed.
-- $1 id uuid: the schedule
-- $2 revision bigint: as it was read when the tick was judged
-- $3 tick timestamptz: the tick
-- $4 day date: of the tick, in the schedule's time zone
UPDATE run_schedules SET
  revision = revision + 1,
  last_tick_at = $3,
  runs_that_day = CASE WHEN runs_on = $4 THEN runs_that_day + 1 ELSE 1 END,
  runs_on = $4
WHERE id = $1 AND revision = $2 AND enabled
  AND (last_tick_at IS NULL OR $3 >= last_tick_at + min_interval_minutes * interval '1 minute')
  AND (runs_on IS DISTINCT FROM $4 OR runs_that_day < max_runs_per_day)
RETURNING revision
