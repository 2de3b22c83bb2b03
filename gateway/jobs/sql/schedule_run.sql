-- purpose: a job of a schedule now, beside its ticks; no row means that it waits for its job, or that it has another one than was read
-- $1 name text: its name
-- $2 id uuid: the job's id
-- $3 max_attempts integer: attempts in total
-- $4 word text: the time that stands for the tick's
-- $5 last_job_id uuid: its last job as it was read; of another one this statement might not see whether it is open
WITH held AS MATERIALIZED (
  SELECT s.name, s.overlap = 'skip' AND EXISTS (
    SELECT FROM jobs j WHERE j.id = s.last_job_id AND j.state IN ('waiting', 'delayed', 'active')
  ) AS busy
  FROM schedules s WHERE s.name = $1 AND s.last_job_id IS NOT DISTINCT FROM $5::uuid
  FOR UPDATE
), moved AS (
  UPDATE schedules s SET last_job_id = $2, revision = s.revision + 1
  FROM held WHERE s.name = held.name AND NOT held.busy
  RETURNING s.*
)
INSERT INTO jobs (id, queue, task, state, args, priority, max_attempts, tags)
SELECT $2, m.queue, m.task, 'waiting',
       CASE WHEN m.tick_arg IS NULL THEN m.args ELSE m.args || jsonb_build_object(m.tick_arg, $4::text) END,
       m.priority, $3, ARRAY['schedule:' || m.name]
FROM moved m
RETURNING id, queue, state, priority, seq, group_key
