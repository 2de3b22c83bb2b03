-- purpose: The last ticks of a schedule, newest first.
-- $1 id uuid: the schedule
-- $2 limit bigint: how many
SELECT tick_at, run_id, skip_code, skip_reason, at FROM run_schedule_ticks WHERE schedule_id = $1 ORDER BY at DESC LIMIT $2
