-- purpose: jobs for the ticks of a due schedule, and its next tick: both or nothing, and for one replica only
-- $1 name text: its name
-- $2 due timestamptz: its next tick as it was read; when it has moved on meanwhile, nothing happens
-- $3 revision bigint: as it was read
-- $4 next_at timestamptz: the tick that comes then; NULL = none
-- $5 ids uuid[]: ids of the jobs
-- $6 ticks timestamptz[]: the tick of each
-- $7 max_attempts integer: attempts in total
-- $8 skipped text: why ticks get no job; NULL = all do
WITH held AS MATERIALIZED (
  SELECT s.name, s.overlap = 'skip' AND EXISTS (
    SELECT FROM jobs j WHERE j.id = s.last_job_id AND j.state IN ('waiting', 'delayed', 'active')
  ) AS busy
  FROM schedules s WHERE s.name = $1 AND s.next_at = $2 AND s.revision = $3 AND s.enabled
  -- whoever changes it, and froze, must not keep the others' ticks waiting: it is looked at again
  FOR UPDATE SKIP LOCKED
), moved AS (
  UPDATE schedules s SET
    next_at = $4,
    last_tick_at = CASE WHEN held.busy THEN s.last_tick_at ELSE coalesce(($6::timestamptz[])[cardinality($6)], s.last_tick_at) END,
    last_job_id = CASE WHEN held.busy THEN s.last_job_id ELSE coalesce(($5::uuid[])[cardinality($5)], s.last_job_id) END,
    skipped_at = CASE WHEN held.busy OR $8::text IS NOT NULL THEN now() ELSE s.skipped_at END,
    skip_reason = CASE WHEN held.busy THEN 'the job of the tick before was still open' ELSE coalesce($8, s.skip_reason) END
  FROM held WHERE s.name = held.name
  RETURNING s.*, held.busy
)
INSERT INTO jobs (id, queue, task, state, args, priority, max_attempts, dedupe_key, tags)
SELECT x.id, m.queue, m.task, 'waiting',
       CASE WHEN m.tick_arg IS NULL THEN m.args ELSE m.args || jsonb_build_object(m.tick_arg, x.word) END,
       m.priority, $7, 'schedule:' || m.name || ':' || x.word, ARRAY['schedule:' || m.name]
FROM moved m, (
  SELECT t.id, t.position, to_char(t.tick AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS word
  FROM unnest($5::uuid[], $6::timestamptz[]) WITH ORDINALITY AS t(id, tick, position)
) x
WHERE NOT m.busy
ORDER BY x.position
ON CONFLICT (queue, dedupe_key) WHERE dedupe_key IS NOT NULL AND state IN ('waiting', 'delayed', 'active') DO NOTHING
RETURNING id, queue, state, priority, seq, group_key
