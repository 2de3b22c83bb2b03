-- purpose: Actions whose job has ended, or is gone, and that have not: somebody has to end them.
-- $1 limit bigint: at most so many
SELECT a.id, a.run_id, a.project_id, a.status, j.task, j.state, j.error
FROM actions a LEFT JOIN jobs j ON j.id = a.job_id
WHERE a.status IN ('approved', 'executing') AND (j.id IS NULL OR j.state IN ('completed', 'failed', 'cancelled'))
ORDER BY a.id LIMIT $1
