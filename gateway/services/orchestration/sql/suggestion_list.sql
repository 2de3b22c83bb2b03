-- purpose: A page of suggestions, newest first.
-- $1 project_id uuid: only of this project; NULL: of all
-- $2 member text: only of projects that this principal is a member of; NULL: of all
-- $3 status text: only these; NULL: all
-- $4 before uuid: the last one of the page before; NULL: from the newest
-- $5 limit bigint: at most so many
SELECT s.id, s.project_id, s.run_id, s.agent_slug, s.title, s.detail, s.priority, s.status, s.created_at, s.expires_at,
  s.decided_at, s.decided_by
FROM suggestions s
WHERE ($1::uuid IS NULL OR s.project_id = $1) AND ($3::text IS NULL OR s.status = $3)
  AND ($2::text IS NULL OR s.project_id IN (SELECT m.project_id FROM project_members m WHERE m.principal = $2))
  AND ($4::uuid IS NULL OR s.id < $4)
ORDER BY s.id DESC LIMIT $5
