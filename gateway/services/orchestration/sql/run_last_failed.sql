-- purpose: The newest run of a project that ended without success and was not repeated.
-- $1 project_id uuid: the project
-- $2 agent_slug text: of this agent alone; NULL: of any
SELECT r.id FROM runs r
WHERE r.project_id = $1 AND r.status IN ('failed', 'cancelled') AND ($2::text IS NULL OR r.agent_slug = $2)
  AND NOT EXISTS (SELECT FROM runs o WHERE o.project_id = r.project_id AND o.id > r.id AND o.retry_of = r.id)
ORDER BY r.id DESC LIMIT 1
