-- purpose: what was said in a conversation before a message, newest first; of an answer that has not come, nothing
-- $1 conversation_id uuid: which
-- $2 message_id uuid: before this one
-- $3 limit integer: most rows
-- $4 longest integer: characters of each text
SELECT left(m.question, $4) AS question, left(m.answer, $4) AS answer FROM messages m
WHERE m.conversation_id = $1 AND m.seq < (SELECT b.seq FROM messages b WHERE b.id = $2)
ORDER BY m.seq DESC LIMIT $3
