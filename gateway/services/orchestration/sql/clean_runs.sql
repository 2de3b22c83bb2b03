-- purpose: Delete runs that ended long ago, cost nothing and left nothing: money and results are kept.
-- $1 age_s double precision: since they ended, in seconds
-- $2 limit bigint: how many at once
DELETE FROM runs WHERE id = ANY (ARRAY(
  SELECT r.id FROM runs r
  WHERE r.status IN ('completed', 'failed', 'cancelled') AND r.finished_at < now() - $1 * interval '1 second'
    AND r.cost_micros = 0 AND r.input_tokens = 0 AND r.output_tokens = 0
    AND NOT EXISTS (SELECT FROM jobs j WHERE j.id = r.id)
    AND NOT EXISTS (SELECT FROM suggestions s WHERE s.run_id = r.id)
    AND NOT EXISTS (SELECT FROM tasks t WHERE t.run_id = r.id)
    AND NOT EXISTS (SELECT FROM actions a WHERE a.run_id = r.id)
    AND NOT EXISTS (SELECT FROM runs o WHERE o.retry_of = r.id)
  ORDER BY r.id LIMIT $2))
