-- purpose: Actions that nobody decided on in time.
-- $1 limit bigint: at most so many
SELECT id, run_id, project_id FROM actions
WHERE status = 'pending' AND expires_at <= now() ORDER BY expires_at LIMIT $1
