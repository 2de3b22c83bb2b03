-- purpose: Suggestions that nobody decided on in time.
-- $1 limit bigint: at most so many
UPDATE suggestions SET status = 'expired' WHERE id IN (
  SELECT id FROM suggestions WHERE status = 'open' AND expires_at <= now() ORDER BY expires_at LIMIT $1)
RETURNING id
