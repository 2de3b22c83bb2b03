-- purpose: What a job made of its tick.
-- $1 id uuid: the schedule
-- $2 job_id uuid: the job
SELECT run_id, skip_code, skip_reason FROM run_schedule_ticks WHERE schedule_id = $1 AND job_id = $2
