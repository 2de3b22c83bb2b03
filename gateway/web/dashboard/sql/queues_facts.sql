-- purpose: what may hold the jobs of each queue back, as `waiting_facts` reads it for one, and who waits longest
-- $1 names text[]: the queues
-- $2 rate_max bigint[]: for each, starts in a window over all replicas; NULL = no limit
-- $3 window_ms double precision[]: for each, length of that window; NULL = no limit
SELECT q.name, now() AS now, q.paused_at, q.paused_until, q.pause_reason,
  (SELECT CASE WHEN sum(s.n) >= asked.rate_max THEN min(s.at) + asked.window_ms * interval '1 millisecond' END
   FROM unnest(q.start_times, q.start_counts) AS s(at, n)
   WHERE s.at > now() - asked.window_ms * interval '1 millisecond' AND s.at <= now() + interval '1 second') AS limited_until,
  EXISTS (SELECT FROM jobs WHERE queue = q.name AND state = 'waiting' AND NOT blocked)
    OR NOT EXISTS (SELECT FROM jobs WHERE queue = q.name AND state = 'waiting' AND blocked) AS ready,
  (SELECT CASE WHEN min(head.run_at) IS NOT NULL  -- greatest() alone takes none for 0
           THEN greatest(0, extract(epoch FROM now() - min(head.run_at)))::double precision END
   FROM generate_series(0, 10) AS level(priority)
   CROSS JOIN LATERAL (
     SELECT run_at FROM jobs
     WHERE queue = q.name AND state = 'waiting' AND NOT blocked AND priority = level.priority::smallint
     ORDER BY seq LIMIT 1
   ) AS head) AS oldest_waiting_s
FROM unnest($1::text[], $2::bigint[], $3::double precision[]) AS asked(name, rate_max, window_ms)
JOIN queues q USING (name)
