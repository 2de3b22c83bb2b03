-- purpose: What agents cost by day, project and model, newest first; each row has the sums of all too.
-- $1 since timestamptz: steps started at or after
-- $2 until timestamptz: started before
-- $3 project_id uuid: of this project; NULL: of all
-- $4 limit bigint: most rows
-- From sums where they hold, else from steps.
WITH parts AS MATERIALIZED (
  SELECT * FROM usage_parts($1, $2)
), spent AS (
  SELECT u.starts_at AS at, u.project_id, u.model, u.steps, u.calls, u.input_tokens, u.output_tokens, u.cost_micros,
    u.uncounted
  FROM parts p JOIN usage_sums u ON u.starts_at = p.starts_at AND u.grain = 5  -- of a project and a model
  WHERE p.summed AND ($3::uuid IS NULL OR u.project_id = $3)
  UNION ALL
  SELECT s.started_at, s.project_id, s.model, 1, s.calls, s.input_tokens, s.output_tokens, s.cost_micros,
    (s.cost_micros = 0 AND s.input_tokens + s.output_tokens > 0)::int
  FROM parts p CROSS JOIN LATERAL (
    SELECT * FROM begun_steps b
    WHERE b.started_at >= p.starts_at AND b.started_at < p.ends_at AND ($3::uuid IS NULL OR b.project_id = $3)
    OFFSET 0  -- part by part, over the index: the planner would go through all steps for each
  ) s
  WHERE NOT p.summed
), days AS (
  SELECT (at AT TIME ZONE 'UTC')::date AS day, project_id, model, sum(steps)::bigint AS steps,
    sum(calls)::bigint AS calls, sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
    sum(cost_micros)::bigint AS cost_micros, sum(uncounted)::bigint AS uncounted
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
