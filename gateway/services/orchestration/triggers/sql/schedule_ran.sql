-- purpose: Write down which run a tick became, in the transaction that claimed it.
-- $1 id uuid: the schedule
-- $2 job_id uuid: the job that judged the tick
-- $3 tick timestamptz: the tick
-- $4 run_id uuid: the run
WITH tick AS (
  INSERT INTO run_schedule_ticks (schedule_id, job_id, tick_at, run_id) VALUES ($1, $2, $3, $4)
)
UPDATE run_schedules SET last_run_id = $4 WHERE id = $1
