-- purpose: A page of runs with their figures, newest first. Of the runs of a project, else of a status, else of all, at most $7 are looked at.
-- $1 project_id uuid: of this project; NULL: of all
-- $2 status text: with this status; NULL: with any
-- $3 job_type text: of this type; NULL: of any
-- $4 agent_slug text: with a step of this agent; NULL: of any
-- $5 before uuid: older than this run
-- $6 limit bigint: at most so many
-- $7 look_at bigint: at most so many are looked at
-- Of the three lists two are empty and cost nothing; each has an index of its own. The count makes it one look at a run's
-- own steps, where EXISTS may become a look at all that the agent ever did.
WITH chosen AS MATERIALIZED (
  SELECT l.id FROM (
    (SELECT id, status, job_type, agent_slug FROM runs
     WHERE $1::uuid IS NOT NULL AND project_id = $1 AND id < $5 ORDER BY id DESC LIMIT $7)
    UNION ALL
    (SELECT id, status, job_type, agent_slug FROM runs
     WHERE $1::uuid IS NULL AND $2::text IS NOT NULL AND status = $2 AND id < $5 ORDER BY id DESC LIMIT $7)
    UNION ALL
    (SELECT id, status, job_type, agent_slug FROM runs
     WHERE $1::uuid IS NULL AND $2::text IS NULL AND id < $5 ORDER BY id DESC LIMIT $7)
  ) AS l
  WHERE ($2::text IS NULL OR l.status = $2) AND ($3::text IS NULL OR l.job_type = $3)
    AND ($4::text IS NULL OR l.agent_slug = $4
         OR (SELECT count(*) FROM run_steps s WHERE s.run_id = l.id AND s.agent_slug = $4) > 0)
  ORDER BY l.id DESC LIMIT $6
)
SELECT r.id, r.project_id, p.name AS project, r.job_type, r.agent_slug, r.triggered_by, r.user_id, r.status, r.error,
  r.dry_run, r.demo, r.input_tokens, r.output_tokens, r.cost_micros, r.created_at, r.scheduled_at, r.started_at,
  r.finished_at, coalesce((r.result ->> 'durationMs')::double precision / 1000,
    extract(epoch FROM coalesce(r.finished_at, clock_timestamp()) - r.started_at)) AS took_s,
  s.steps, s.over, s.failed, s.uncounted
FROM chosen JOIN runs r USING (id) JOIN projects p ON p.id = r.project_id
CROSS JOIN LATERAL (
  SELECT count(*) AS steps, count(*) FILTER (WHERE status NOT IN ('waiting', 'running')) AS over,
    count(*) FILTER (WHERE status IN ('failed', 'refused')) AS failed,
    coalesce(array_agg(DISTINCT coalesce(model, '')) FILTER (
      WHERE cost_micros = 0 AND input_tokens + output_tokens > 0 AND NOT demo), '{}') AS uncounted
  FROM run_steps WHERE run_id = r.id) s
ORDER BY r.id DESC
