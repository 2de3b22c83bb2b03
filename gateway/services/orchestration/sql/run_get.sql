-- purpose: One run and where its job stands.
-- $1 id uuid: its id
SELECT r.id, r.project_id, r.job_type, coalesce(r.work, r.job_type) AS work, r.agent_slug, r.triggered_by, r.user_id,
  r.context, r.dry_run, r.budget_micros, r.timeout_ms, r.retry_of, r.status, r.result, r.error, r.input_tokens,
  r.output_tokens, r.cost_micros, r.demo, r.created_at, r.started_at, r.finished_at, r.dedupe_key,
  coalesce(r.priority, 5) AS priority, r.scheduled_at,
  extract(epoch FROM clock_timestamp() - r.started_at)::double precision AS age_s,
  j.state, j.attempts, j.max_attempts
FROM runs r LEFT JOIN jobs j ON j.id = r.id
WHERE r.id = $1
