-- purpose: the open jobs that hold these dedupe keys
-- $1 queues text[]: one per key
-- $2 keys text[]: dedupe keys
SELECT j.id, j.queue, j.state, j.priority, j.seq, j.group_key, j.dedupe_key
FROM unnest($1::text[], $2::text[]) AS x(queue, key)
JOIN jobs j ON j.queue = x.queue AND j.dedupe_key = x.key AND j.state IN ('waiting', 'delayed', 'active')
