-- purpose: A page of schedules of runs, newest first, as in schedule_get.
-- $1 project_id uuid: only this one's; NULL: all
-- $2 member text: only of his projects; NULL: of all
-- $3 before uuid: the last one of the page before, or NULL
-- $4 limit bigint: most rows
SELECT s.*, p.archived_at, CASE WHEN r.status = 'failed' THEN r.finished_at END AS failed_at, e.next_at,
  coalesce(e.enabled, false) AS ticking, e.disabled_reason, e.skipped_at AS ticks_skipped_at, e.skip_reason AS ticks_skip_reason,
  now() AS seen_at
FROM run_schedules s
JOIN projects p ON p.id = s.project_id
LEFT JOIN runs r ON r.id = s.last_run_id
LEFT JOIN schedules e ON e.name = 'project:' || s.project_id || ':' || s.id
WHERE ($1::uuid IS NULL OR s.project_id = $1)
  AND ($2::text IS NULL OR EXISTS (SELECT FROM project_members m WHERE m.project_id = s.project_id AND m.principal = $2))
  AND ($3::uuid IS NULL OR s.id < $3)
ORDER BY s.id DESC
LIMIT $4
