-- purpose: forget the starts of groups that left every window, or whose queue has no group rate any more
DELETE FROM group_starts s USING queues q
WHERE q.name = s.queue
  AND (q.group_window_ms IS NULL OR s.at < clock_timestamp() - q.group_window_ms * interval '1 millisecond')
