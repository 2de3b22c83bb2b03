-- purpose: A person's word on an open suggestion; one that is approved becomes a task of the same id.
-- $1 id uuid: the suggestion
-- $2 status text: approved or rejected
-- $3 decided_by text: who
WITH decided AS (
  UPDATE suggestions SET status = $2, decided_by = $3, decided_at = now()
  WHERE id = $1 AND status = 'open' AND (expires_at IS NULL OR expires_at > now())
  RETURNING id, project_id, run_id, title, detail, priority
), task AS (
  INSERT INTO tasks (id, project_id, run_id, title, detail, priority)
  SELECT id, project_id, run_id, title, detail, priority FROM decided WHERE $2 = 'approved'
)
SELECT id FROM decided
