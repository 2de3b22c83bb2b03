-- purpose: What steps of all projects cost in a time, grouped; the first row is the total. Pruned runs count as before.
-- $1 since timestamptz: started at or after
-- $2 until timestamptz: started before
-- $3 by text[]: any of agent, model, day (UTC), project, run
-- $4 limit int: most rows, with the total
WITH steps AS (
  SELECT run_id, project_id, agent_slug, model, calls, input_tokens, output_tokens, cost_micros, started_at
  FROM run_steps WHERE started_at >= $1 AND started_at < $2
  UNION ALL
  SELECT run_id, project_id, agent_slug, model, calls, input_tokens, output_tokens, cost_micros, started_at
  FROM pruned_steps WHERE started_at >= $1 AND started_at < $2
), paid AS (
  SELECT CASE WHEN 'agent' = ANY ($3::text[]) THEN s.agent_slug END AS agent,
    CASE WHEN 'model' = ANY ($3) THEN s.model END AS model,
    CASE WHEN 'day' = ANY ($3) THEN (s.started_at AT TIME ZONE 'UTC')::date END AS day,
    CASE WHEN 'project' = ANY ($3) THEN s.project_id END AS project,
    CASE WHEN 'run' = ANY ($3) THEN s.run_id END AS run,
    s.run_id, s.calls, s.input_tokens, s.output_tokens, s.cost_micros
  FROM steps s
)
SELECT grouping(agent) = 1 AS total, agent, model, day, project, run, count(DISTINCT run_id) AS runs,
  coalesce(sum(calls), 0)::bigint AS calls, coalesce(sum(input_tokens), 0)::bigint AS input_tokens,
  coalesce(sum(output_tokens), 0)::bigint AS output_tokens, coalesce(sum(cost_micros), 0)::bigint AS cost_micros
FROM paid
GROUP BY GROUPING SETS ((), (agent, model, day, project, run))
ORDER BY total DESC, day, agent, model, project, run
LIMIT $4
