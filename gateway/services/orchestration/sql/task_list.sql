-- purpose: A page of tasks, newest first.
-- $1 project_id uuid: only of this project; NULL: of all
-- $2 member text: only of projects that this principal is a member of; NULL: of all
-- $3 status text: only these; NULL: all
-- $4 before uuid: the last one of the page before; NULL: from the newest
-- $5 limit bigint: at most so many
SELECT t.id, t.project_id, t.run_id, t.title, t.detail, t.priority, t.status, t.created_at, t.updated_at
FROM tasks t
WHERE ($1::uuid IS NULL OR t.project_id = $1) AND ($3::text IS NULL OR t.status = $3)
  AND ($2::text IS NULL OR t.project_id IN (SELECT m.project_id FROM project_members m WHERE m.principal = $2))
  AND ($4::uuid IS NULL OR t.id < $4)
ORDER BY t.id DESC LIMIT $5
