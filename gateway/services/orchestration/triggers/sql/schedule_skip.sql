-- purpose: Write down why a tick became no run.
-- $1 id uuid: the schedule
-- $2 job_id uuid: the job that judged the tick
-- $3 tick timestamptz: the tick
-- $4 code text: a word
-- $5 reason text: a sentence
WITH tick AS (
  INSERT INTO run_schedule_ticks (schedule_id, job_id, tick_at, skip_code, skip_reason) VALUES ($1, $2, $3, $4, $5)
  ON CONFLICT (schedule_id, job_id) DO NOTHING
  RETURNING schedule_id
)
UPDATE run_schedules SET skipped_at = now(), skip_code = $4, skip_reason = $5 WHERE id = (SELECT schedule_id FROM tick)
