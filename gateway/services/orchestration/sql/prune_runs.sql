-- purpose: Delete runs that ended long ago, with what they proposed; what they cost goes to pruned_steps, tasks stay.
-- $1 age_s double precision: since they ended, in seconds
-- $2 limit bigint: how many at once
-- One with an open suggestion or an action under way stays; of retries the newest go first, as they refer to the others.
WITH old AS MATERIALIZED (
  SELECT r.id FROM runs r
  WHERE r.status IN ('completed', 'failed', 'cancelled') AND r.finished_at < now() - $1 * interval '1 second'
    AND NOT EXISTS (SELECT FROM jobs j WHERE j.id = r.id)
    AND NOT EXISTS (SELECT FROM suggestions s WHERE s.run_id = r.id AND s.status = 'open')
    AND NOT EXISTS (SELECT FROM actions a WHERE a.run_id = r.id AND a.status IN ('pending', 'approved', 'executing'))
    AND NOT EXISTS (SELECT FROM runs o WHERE o.retry_of = r.id)
  ORDER BY r.finished_at LIMIT $2 FOR UPDATE SKIP LOCKED
), costs AS (
  INSERT INTO pruned_steps (run_id, position, project_id, agent_slug, model, calls, input_tokens, output_tokens, cost_micros,
    started_at)
  SELECT s.run_id, s.position, s.project_id, s.agent_slug, s.model, s.calls, s.input_tokens, s.output_tokens, s.cost_micros,
    s.started_at
  FROM run_steps s WHERE s.run_id IN (SELECT id FROM old) AND s.started_at IS NOT NULL
), loosened AS (
  UPDATE tasks SET run_id = NULL, step_id = NULL, position = NULL WHERE run_id IN (SELECT id FROM old)
), decided AS (
  DELETE FROM suggestions WHERE run_id IN (SELECT id FROM old)
), acted AS (
  DELETE FROM actions WHERE run_id IN (SELECT id FROM old)
)
DELETE FROM runs WHERE id IN (SELECT id FROM old)
