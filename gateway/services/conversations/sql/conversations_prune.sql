-- purpose: delete conversations in which nothing was asked for long, with their messages
-- $1 age_s double precision: seconds since the last question
-- $2 limit bigint: at most so many
-- One whose answer is still under way stays.
WITH old AS MATERIALIZED (
  SELECT c.id FROM conversations c
  WHERE c.updated_at < now() - $1 * interval '1 second'
    AND NOT EXISTS (SELECT FROM messages m WHERE m.conversation_id = c.id AND m.status IN ('queued', 'running'))
  ORDER BY c.updated_at LIMIT $2 FOR UPDATE SKIP LOCKED
)
DELETE FROM conversations WHERE id IN (SELECT id FROM old)
