-- purpose: Runs that have ended without anybody having been told.
-- $1 limit bigint: at most
SELECT id, project_id, status FROM runs
WHERE status IN ('completed', 'failed', 'cancelled') AND told IS DISTINCT FROM status
LIMIT $1
