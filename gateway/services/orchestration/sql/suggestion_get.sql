-- purpose: One suggestion.
-- $1 id uuid: the suggestion
SELECT id, project_id, run_id, agent_slug, title, detail, priority, status, created_at, expires_at, decided_at, decided_by
FROM suggestions WHERE id = $1
