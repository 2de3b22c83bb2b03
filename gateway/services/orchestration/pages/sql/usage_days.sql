-- purpose: What agents cost by day, project and model, newest first; each row has the sums of all too.
-- $1 since timestamptz: steps started at or after
-- $2 until timestamptz: started before
-- $3 project_id uuid: of this project; NULL: of all
-- $4 limit bigint: most rows
-- Pruned runs count as before.
WITH spent AS (
  SELECT project_id, model, calls, input_tokens, output_tokens, cost_micros, started_at
  FROM run_steps WHERE started_at >= $1 AND started_at < $2 AND ($3::uuid IS NULL OR project_id = $3)
  UNION ALL
  SELECT project_id, model, calls, input_tokens, output_tokens, cost_micros, started_at
  FROM pruned_steps WHERE started_at >= $1 AND started_at < $2 AND ($3::uuid IS NULL OR project_id = $3)
), days AS (
  SELECT (started_at AT TIME ZONE 'UTC')::date AS day, project_id, model, count(*) AS steps,
    sum(calls)::bigint AS calls, sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
    sum(cost_micros)::bigint AS cost_micros,
    count(*) FILTER (WHERE cost_micros = 0 AND input_tokens + output_tokens > 0) AS uncounted
  FROM spent GROUP BY 1, 2, 3
)
SELECT d.day, d.project_id, p.name AS project, d.model, d.steps, d.calls, d.input_tokens, d.output_tokens, d.cost_micros,
  d.uncounted, d.whole_steps, d.whole_calls, d.whole_input, d.whole_output, d.whole_cost, d.uncounted_models
FROM (
  SELECT *, sum(steps) OVER ()::bigint AS whole_steps, sum(calls) OVER ()::bigint AS whole_calls,
    sum(input_tokens) OVER ()::bigint AS whole_input, sum(output_tokens) OVER ()::bigint AS whole_output,
    sum(cost_micros) OVER ()::bigint AS whole_cost,
    (SELECT coalesce(array_agg(DISTINCT coalesce(model, '')), '{}') FROM days WHERE uncounted > 0) AS uncounted_models
  FROM days ORDER BY day DESC, project_id, model LIMIT $4
) d JOIN projects p ON p.id = d.project_id
ORDER BY d.day DESC, p.name, d.project_id, d.model
