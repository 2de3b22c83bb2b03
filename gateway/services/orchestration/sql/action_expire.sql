-- purpose: Nobody decided on an action in time.
-- $1 id uuid: the action
UPDATE actions SET status = 'expired', reason = 'nobody decided in time'
WHERE id = $1 AND status = 'pending' AND expires_at <= now()
RETURNING project_id
