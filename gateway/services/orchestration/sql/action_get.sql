-- purpose: One action.
-- $1 id uuid: the action
SELECT a.id, a.project_id, a.run_id, a.step_id, a.agent_slug, a.action, a.arguments, a.proposed, a.rationale, a.risk, a.status,
  a.reason, a.expires_at, a.decided_by, a.decided_at, a.comment, a.not_before, a.job_id, a.outcome, a.created_at,
  a.executed_at
FROM actions a WHERE a.id = $1
