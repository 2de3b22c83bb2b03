-- purpose: a page of the waiting jobs of one queue and priority in order of arrival, to tell Redis about
-- $1 queue text: its name
-- $2 priority smallint: 0..10
-- $3 after_seq bigint: 0 = from the first
-- $4 limit bigint: page size
SELECT id, queue, state, priority, seq, group_key FROM jobs
WHERE queue = $1 AND state = 'waiting' AND NOT blocked AND priority = $2 AND seq > $3
ORDER BY seq LIMIT $4
