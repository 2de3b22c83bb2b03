-- purpose: What steps of some projects cost in a time, grouped, and in total: from sums where they hold, else from steps.
-- $1 since timestamptz: started at or after
-- $2 until timestamptz: started before
-- $3 by text[]: any of agent, model, day (UTC), project
-- $4 limit int: most rows, with the total
-- $5 project_id uuid: of this one; NULL: of all that $6 is a member of
-- $6 member text: a principal
-- The total comes first; nothing at all: there were no steps.
WITH wanted AS MATERIALIZED (
  SELECT unnest(CASE WHEN $5::uuid IS NOT NULL THEN ARRAY[$5::uuid]
    ELSE ARRAY(SELECT m.project_id FROM project_members m WHERE m.principal = $6) END) AS project_id
), parts AS MATERIALIZED (
  SELECT * FROM usage_parts($1, $2)
), rows AS MATERIALIZED (
  SELECT true AS total, 4 AS grain UNION ALL
  SELECT false, 4 + 2 * ('agent' = ANY ($3::text[]))::int + ('model' = ANY ($3))::int
), spent AS (
  SELECT r.total, u.starts_at AS at, u.project_id, u.agent_slug, u.model, u.runs, u.calls, u.input_tokens,
    u.output_tokens, u.cost_micros
  FROM wanted w CROSS JOIN rows r
    JOIN usage_sums u ON u.project_id = w.project_id AND u.grain = r.grain AND u.starts_at >= $1 AND u.starts_at < $2
    JOIN parts p ON p.starts_at = u.starts_at
  WHERE p.summed
  UNION ALL
  SELECT r.total, s.started_at, s.project_id, s.agent_slug, s.model, CASE WHEN r.total THEN f.of_run ELSE f.of_group END,
    s.calls, s.input_tokens, s.output_tokens, s.cost_micros
  FROM wanted w CROSS JOIN parts p CROSS JOIN LATERAL (
    SELECT * FROM begun_steps b
    WHERE b.project_id = w.project_id AND b.started_at >= p.starts_at AND b.started_at < p.ends_at
    OFFSET 0  -- part by part, over the index: the planner would go through all steps for each
  ) s CROSS JOIN LATERAL (
    SELECT (count(*) = 0)::int AS of_run, (count(*) FILTER (
      WHERE ('agent' <> ALL ($3) OR b.agent_slug IS NOT DISTINCT FROM s.agent_slug)
        AND ('model' <> ALL ($3) OR b.model IS NOT DISTINCT FROM s.model)) = 0)::int AS of_group
    FROM begun_steps b WHERE b.run_id = s.run_id AND (b.started_at, b.position) < (s.started_at, s.position)
  ) f CROSS JOIN rows r
  WHERE NOT p.summed
)
SELECT total, CASE WHEN 'agent' = ANY ($3) AND NOT total THEN agent_slug END AS agent,
  CASE WHEN 'model' = ANY ($3) AND NOT total THEN model END AS model,
  CASE WHEN 'day' = ANY ($3) AND NOT total THEN (at AT TIME ZONE 'UTC')::date END AS day,
  CASE WHEN 'project' = ANY ($3) AND NOT total THEN project_id END AS project,
  sum(runs)::bigint AS runs, sum(calls)::bigint AS calls, sum(input_tokens)::bigint AS input_tokens,
  sum(output_tokens)::bigint AS output_tokens, sum(cost_micros)::bigint AS cost_micros
FROM spent
GROUP BY 1, 2, 3, 4, 5
ORDER BY 1 DESC, 4, 2, 3, 5
LIMIT $4
