-- purpose: Runs of a project, or of all, newest first.
-- $1 project_id uuid: of this project; NULL: of all
-- $2 status text: with this status; NULL: with any
-- $3 before uuid: older than this run; NULL: from the newest
-- $4 limit bigint: at most
SELECT r.id, r.project_id, r.job_type, coalesce(r.work, r.job_type) AS work, r.agent_slug, r.triggered_by, r.user_id,
  '{}'::jsonb AS context, r.dry_run, r.budget_micros, r.timeout_ms, r.retry_of, r.status, r.result, r.error,
  r.input_tokens, r.output_tokens, r.cost_micros, r.demo, r.created_at, r.started_at, r.finished_at, r.dedupe_key,
  coalesce(r.priority, 5) AS priority, r.scheduled_at, NULL::double precision AS age_s,
  NULL::text AS state, NULL::integer AS attempts, NULL::integer AS max_attempts
FROM runs r
WHERE ($1::uuid IS NULL OR r.project_id = $1) AND ($2::text IS NULL OR r.status = $2) AND ($3::uuid IS NULL OR r.id < $3)
ORDER BY r.id DESC LIMIT $4
