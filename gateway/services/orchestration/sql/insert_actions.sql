-- purpose: Keep the decided actions of a step; those that are there already stay as they are.
-- $1 project_id uuid: whose they are
-- $2 run_id uuid: the run
-- $3 step_id uuid: the step
-- $4 agent_slug text: who asks
-- $5 actions jsonb: array of the columns that the caller decides
-- $6 approval_s double precision: seconds until a pending one expires
INSERT INTO actions (id, project_id, run_id, step_id, position, agent_slug, action, arguments, rationale, risk, status,
  reason, expires_at, decided_by, decided_at, not_before, job_id)
SELECT x.id, $1, $2, $3, x.position, $4, x.action, x.arguments, x.rationale, x.risk, x.status, x.reason,
  CASE WHEN x.status = 'pending' THEN now() + make_interval(secs => $6) END,
  CASE WHEN x.status <> 'pending' THEN 'policy' END, CASE WHEN x.status <> 'pending' THEN now() END, x.not_before,
  x.job_id
FROM jsonb_to_recordset($5) AS x(id uuid, position int, action text, arguments jsonb, rationale text, risk text,
  status text, reason text, not_before timestamptz, job_id uuid)
ON CONFLICT (step_id, position) DO NOTHING
RETURNING id, status
