-- purpose: Runs of somebody's projects, newest first; of each only as many are read as may be shown.
-- $1 member text: he is a member of the projects
-- $2 status text: with this status; NULL: with any
-- $3 before uuid: older than this run; NULL: from the newest
-- $4 limit bigint: at most
SELECT r.id, r.project_id, r.job_type, coalesce(r.work, r.job_type) AS work, r.agent_slug, r.triggered_by, r.user_id,
  '{}'::jsonb AS context, r.dry_run, r.budget_micros, r.timeout_ms, r.retry_of, r.status, r.result, r.error,
  r.input_tokens, r.output_tokens, r.cost_micros, r.demo, r.created_at, r.started_at, r.finished_at, r.dedupe_key,
  coalesce(r.priority, 5) AS priority, r.scheduled_at, NULL::double precision AS age_s,
  NULL::text AS state, NULL::integer AS attempts, NULL::integer AS max_attempts
FROM project_members m CROSS JOIN LATERAL (
  SELECT * FROM runs own
  WHERE own.project_id = m.project_id AND ($2::text IS NULL OR own.status = $2) AND ($3::uuid IS NULL OR own.id < $3)
  ORDER BY own.id DESC LIMIT $4) r
WHERE m.principal = $1
ORDER BY r.id DESC LIMIT $4
