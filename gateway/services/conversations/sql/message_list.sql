-- purpose: a page of a conversation's messages, newest first
-- $1 conversation_id uuid: which
-- $2 before uuid: the last one of the page before; NULL = the first page
-- $3 limit integer: most rows
SELECT * FROM messages_now
WHERE conversation_id = $1
  AND ($2::uuid IS NULL OR seq < (SELECT b.seq FROM messages b WHERE b.id = $2 AND b.conversation_id = $1))
ORDER BY seq DESC LIMIT $3
