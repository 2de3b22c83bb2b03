-- purpose: stop noting the starts of groups in queues whose group rate nobody has gone by for long
-- $1 rated text[]: queues that have a group rate in this process
UPDATE queues SET group_window_ms = NULL, group_window_at = NULL
WHERE group_window_at < clock_timestamp() - interval '2 hours' - group_window_ms * interval '1 millisecond'
  AND name <> ALL ($1::text[])
