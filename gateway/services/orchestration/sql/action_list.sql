-- purpose: A page of actions, newest first.
-- $1 project_id uuid: only of this project; NULL: of all
-- $2 member text: only of projects that this principal is a member of; NULL: of all
-- $3 status text: only these; NULL: all
-- $4 run_id uuid: only of this run; NULL: of all
-- $5 before uuid: the last action of the page before; NULL: from the newest
-- $6 limit bigint: at most so many
SELECT a.id, a.project_id, a.run_id, a.step_id, a.agent_slug, a.action, a.arguments, a.proposed, a.rationale, a.risk, a.status,
  a.reason, a.expires_at, a.decided_by, a.decided_at, a.comment, a.not_before, a.job_id, a.outcome, a.created_at,
  a.executed_at
FROM actions a
WHERE ($1::uuid IS NULL OR a.project_id = $1) AND ($3::text IS NULL OR a.status = $3)
  AND ($2::text IS NULL OR a.project_id IN (SELECT m.project_id FROM project_members m WHERE m.principal = $2))
  AND ($4::uuid IS NULL OR a.run_id = $4) AND ($5::uuid IS NULL OR a.id < $5)
ORDER BY a.id DESC LIMIT $6
