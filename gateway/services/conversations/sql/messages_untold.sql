-- purpose: messages that ended some seconds ago and whose end nobody was told, or these
-- $1 ids uuid[]: these, at once
-- $2 limit integer: at most so many
SELECT id, conversation_id, job_id, status FROM messages
WHERE status IN ('completed', 'failed', 'cancelled') AND told IS DISTINCT FROM status
  AND (id = ANY ($1) OR finished_at < clock_timestamp() - interval '3 seconds')
LIMIT $2
