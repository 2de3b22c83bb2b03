-- purpose: Forget ticks of schedules of long ago.
-- $1 age_s double precision: since they were judged, in seconds
-- $2 limit bigint: how many at once
DELETE FROM run_schedule_ticks WHERE (schedule_id, job_id) IN (
  SELECT schedule_id, job_id FROM run_schedule_ticks WHERE at < now() - $1 * interval '1 second' LIMIT $2)
