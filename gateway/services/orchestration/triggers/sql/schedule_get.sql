-- purpose: One schedule of runs, how its last run ended, and what the engine says of its ticks.
-- $1 id uuid: its id
SELECT s.*, p.archived_at, CASE WHEN r.status = 'failed' THEN r.finished_at END AS failed_at, e.next_at,
  coalesce(e.enabled, false) AS ticking, e.disabled_reason, e.skipped_at AS ticks_skipped_at, e.skip_reason AS ticks_skip_reason,
  now() AS seen_at
FROM run_schedules s
JOIN projects p ON p.id = s.project_id
LEFT JOIN runs r ON r.id = s.last_run_id
LEFT JOIN schedules e ON e.name = 'project:' || s.project_id || ':' || s.id
WHERE s.id = $1
