-- purpose: A page of actions that wait for a person, the one with the least time left first.
-- $1 after uuid: the last action of the page before; NULL: from the first
-- $2 limit bigint: at most so many
SELECT a.id, a.project_id, p.name AS project, a.run_id, a.step_id, a.agent_slug, a.action, a.arguments, a.proposed,
  a.rationale, a.risk, a.status, a.reason, a.expires_at, a.decided_by, a.decided_at, a.comment, a.not_before, a.job_id,
  a.outcome, a.created_at, a.executed_at
FROM actions a JOIN projects p ON p.id = a.project_id
WHERE a.status = 'pending' AND a.expires_at > now()
  AND ($1::uuid IS NULL OR (a.expires_at, a.id) > (SELECT c.expires_at, c.id FROM actions c WHERE c.id = $1))
ORDER BY a.expires_at, a.id LIMIT $2
