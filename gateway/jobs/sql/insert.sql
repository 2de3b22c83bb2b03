-- purpose: insert jobs in the order given; one whose dedupe key an open job of its queue has is left out
-- $1 ids uuid[]: the jobs' ids
-- $2 queues text[]: one per job
-- $3 tasks text[]: one per job
-- $4 args text[]: one JSON object per job
-- $5 priorities smallint[]: 0..10, higher first
-- $6 max_attempts integer[]: attempts in total
-- $7 run_ats timestamptz[]: not before; NULL or past = now
-- $8 dedupe_keys text[]: NULL = none
-- $9 group_keys text[]: NULL = none
-- $10 expires_ats timestamptz[]: not started by then = cancelled; NULL = never
-- $11 tags text[]: one JSON array per job; NULL = none
-- $12 request_ids text[]: of the requests that asked for them; NULL = nobody
-- $13 traceparents text[]: of the traces that they are part of; NULL = none
INSERT INTO jobs (id, queue, task, state, args, priority, max_attempts, run_at, dedupe_key, group_key,
                  expires_at, request_id, traceparent, tags)
SELECT x.id, x.queue, x.task, CASE WHEN x.run_at > now() THEN 'delayed' ELSE 'waiting' END, x.args::jsonb, x.priority,
       x.max_attempts, greatest(x.run_at, now()), x.dedupe_key, x.group_key, x.expires_at, x.request_id, x.traceparent,
       CASE WHEN x.tags IS NULL THEN '{}' ELSE ARRAY(SELECT jsonb_array_elements_text(x.tags::jsonb)) END
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::integer[], $7::timestamptz[], $8::text[],
            $9::text[], $10::timestamptz[], $11::text[], $12::text[], $13::text[])
  WITH ORDINALITY AS x(id, queue, task, args, priority, max_attempts, run_at, dedupe_key, group_key, expires_at, tags,
                            request_id, traceparent, position)
ORDER BY x.position
ON CONFLICT (queue, dedupe_key) WHERE dedupe_key IS NOT NULL AND state IN ('waiting', 'delayed', 'active') DO NOTHING
RETURNING id, queue, state, priority, seq, group_key
