-- purpose: Runs that have ended without anybody having been told; from now on somebody is.
-- $1 limit bigint: at most
UPDATE runs SET told = status WHERE id = ANY (ARRAY(
  SELECT id FROM runs WHERE status IN ('completed', 'failed', 'cancelled') AND told IS DISTINCT FROM status
  LIMIT $1 FOR UPDATE SKIP LOCKED))
RETURNING id, project_id, status
