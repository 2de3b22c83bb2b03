-- purpose: add what a replica saw end to this minute's numbers, which other replicas add to as well
-- $1 queues text[]: their names, sorted, so that replicas lock rows in one order
-- $2 completed integer[]: jobs, one number per queue
-- $3 failed integer[]: jobs
-- $4 retried integer[]: attempts
-- $5 waits text[]: one JSON array per queue, attempts by time from ready to started
-- $6 runs text[]: likewise, by time from started to ended
INSERT INTO queue_history AS h (queue, minute, completed, failed, retried, wait_buckets, run_buckets)
SELECT x.queue, date_trunc('minute', now()), x.completed, x.failed, x.retried,
       ARRAY(SELECT jsonb_array_elements(x.waits::jsonb)::integer), ARRAY(SELECT jsonb_array_elements(x.runs::jsonb)::integer)
FROM unnest($1::text[], $2::integer[], $3::integer[], $4::integer[], $5::text[], $6::text[])
  WITH ORDINALITY AS x(queue, completed, failed, retried, waits, runs, position)
ORDER BY x.position
ON CONFLICT (queue, minute) DO UPDATE SET
  completed = h.completed + excluded.completed,
  failed = h.failed + excluded.failed,
  retried = h.retried + excluded.retried,
  wait_buckets = ARRAY(SELECT coalesce(a, 0) + coalesce(b, 0)
                       FROM unnest(h.wait_buckets, excluded.wait_buckets) WITH ORDINALITY AS t(a, b, n) ORDER BY n),
  run_buckets = ARRAY(SELECT coalesce(a, 0) + coalesce(b, 0)
                      FROM unnest(h.run_buckets, excluded.run_buckets) WITH ORDINALITY AS t(a, b, n) ORDER BY n)
