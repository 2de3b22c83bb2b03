-- purpose: note how many jobs each queue has now; of a minute the highest numbers are kept
INSERT INTO queue_history AS h (queue, minute, waiting, active, delayed)
SELECT queue, date_trunc('minute', now()), coalesce(sum(n) FILTER (WHERE state = 'waiting'), 0),
       coalesce(sum(n) FILTER (WHERE state = 'active'), 0), coalesce(sum(n) FILTER (WHERE state = 'delayed'), 0)
FROM job_counts GROUP BY queue
ORDER BY queue COLLATE "C"  -- as replicas sort the names that they add
ON CONFLICT (queue, minute) DO UPDATE SET
  waiting = greatest(h.waiting, excluded.waiting),
  active = greatest(h.active, excluded.active),
  delayed = greatest(h.delayed, excluded.delayed)
