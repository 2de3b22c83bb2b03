-- purpose: What these jobs work on, of those that are runs: the agent or kind of the run, and its project.
-- $1 job_ids uuid[]: the jobs
SELECT r.id, coalesce(r.agent_slug, r.job_type) AS work, p.name AS project
FROM runs r JOIN projects p ON p.id = r.project_id
WHERE r.id = ANY ($1)
