-- purpose: the waiting jobs of a queue that are next in line
-- $1 queue text: its name
-- $2 limit bigint: how many
SELECT id, queue, state, priority, seq, group_key FROM jobs
WHERE queue = $1 AND state = 'waiting' AND NOT blocked ORDER BY priority DESC, seq LIMIT $2
