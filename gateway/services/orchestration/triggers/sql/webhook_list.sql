-- purpose: A page of webhook triggers, newest first.
-- $1 project_id uuid: only this one's; NULL: all
-- $2 member text: only of his projects; NULL: of all
-- $3 before uuid: the last one of the page before, or NULL
-- $4 limit bigint: most rows
SELECT t.* FROM webhook_triggers t
WHERE ($1::uuid IS NULL OR t.project_id = $1)
  AND ($2::text IS NULL OR EXISTS (SELECT FROM project_members m WHERE m.project_id = t.project_id AND m.principal = $2))
  AND ($3::uuid IS NULL OR t.id < $3)
ORDER BY t.id DESC
LIMIT $4
