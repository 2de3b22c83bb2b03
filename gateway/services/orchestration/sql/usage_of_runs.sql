-- purpose: What steps cost in a short time, by run and whatever else; the first row is the total.
-- $1 since timestamptz: started at or after
-- $2 until timestamptz: started before
-- $3 by text[]: run, and any of agent, model, day (UTC), project
-- $4 limit int: most rows, with the total
-- $5 project_id uuid: of this project; NULL: of all that $6 is a member of
-- $6 member text: a principal; NULL, as $5: of all projects
WITH spent AS (
  SELECT s.*, NOT EXISTS (SELECT FROM begun_steps b
    WHERE b.run_id = s.run_id AND (b.started_at, b.position) < (s.started_at, s.position)) AS of_run
  FROM begun_steps s
  WHERE s.started_at >= $1 AND s.started_at < $2 AND ($5::uuid IS NULL OR s.project_id = $5)
    AND ($5 IS NOT NULL OR $6::text IS NULL OR s.project_id IN (
      SELECT m.project_id FROM project_members m WHERE m.principal = $6))
), keyed AS (
  SELECT CASE WHEN 'agent' = ANY ($3::text[]) THEN agent_slug END AS agent,
    CASE WHEN 'model' = ANY ($3) THEN model END AS model,
    CASE WHEN 'day' = ANY ($3) THEN (started_at AT TIME ZONE 'UTC')::date END AS day,
    CASE WHEN 'project' = ANY ($3) THEN project_id END AS project,
    run_id AS run, of_run, calls, input_tokens, output_tokens, cost_micros
  FROM spent
)
SELECT grouping(run) = 1 AS total, agent, model, day, project, run,
  CASE grouping(run) WHEN 1 THEN count(*) FILTER (WHERE of_run) ELSE 1 END AS runs,
  coalesce(sum(calls), 0)::bigint AS calls, coalesce(sum(input_tokens), 0)::bigint AS input_tokens,
  coalesce(sum(output_tokens), 0)::bigint AS output_tokens, coalesce(sum(cost_micros), 0)::bigint AS cost_micros
FROM keyed
GROUP BY GROUPING SETS ((), (agent, model, day, project, run))
ORDER BY total DESC, day, agent, model, project, run
LIMIT $4
