-- purpose: Begin to execute an approved action, if its policy has room for it now; a begun one goes on.
-- $1 id uuid: the action
-- $2 built_in jsonb: the policy of each kind without a row: {kind: {enabled, max_per_hour, max_per_day, cooldown_s}}
-- Starts are kept in one row for each project and kind: whoever updates it waits for the others and sees theirs, so the
-- limits hold over all replicas without a lock that outlives the statement.
WITH wanted AS (
  SELECT a.id, a.project_id, a.action, coalesce(c.enabled, (b.rule ->> 'enabled')::boolean) AS enabled,
    coalesce(c.max_per_hour, (b.rule ->> 'max_per_hour')::int) AS max_per_hour,
    coalesce(c.max_per_day, (b.rule ->> 'max_per_day')::int) AS max_per_day,
    coalesce(c.cooldown_s, (b.rule ->> 'cooldown_s')::int) AS cooldown_s
  FROM actions a LEFT JOIN action_configs c ON c.project_id = a.project_id AND c.action = a.action
  CROSS JOIN LATERAL (SELECT $2::jsonb -> a.action AS rule) b
  WHERE a.id = $1 AND a.status = 'approved'
  FOR UPDATE OF a
), slot AS (
  INSERT INTO action_starts AS s (project_id, action, starts)
  SELECT w.project_id, w.action, ARRAY[clock_timestamp()] FROM wanted w WHERE w.enabled
  ON CONFLICT (project_id, action) DO UPDATE SET starts = ARRAY(
      SELECT t FROM unnest(s.starts) AS t WHERE t > clock_timestamp() - interval '1 day' ORDER BY t
    ) || clock_timestamp()
  WHERE (SELECT count(*) FROM unnest(s.starts) AS t WHERE t > clock_timestamp() - interval '1 hour')
      < (SELECT max_per_hour FROM wanted)
    AND (SELECT count(*) FROM unnest(s.starts) AS t WHERE t > clock_timestamp() - interval '1 day')
      < (SELECT max_per_day FROM wanted)
    AND NOT EXISTS (
      SELECT FROM unnest(s.starts) AS t
      WHERE t > clock_timestamp() - make_interval(secs => (SELECT cooldown_s FROM wanted)))
  RETURNING 1
), begun AS (
  UPDATE actions SET status = 'executing', executed_at = clock_timestamp()
  WHERE id = (SELECT id FROM wanted) AND EXISTS (SELECT FROM slot)
  RETURNING 1
)
SELECT a.id, a.project_id, a.run_id, a.action, a.arguments, a.status, a.reason, a.job_id, a.outcome, a.created_at,
  a.decided_by, p.repository, p.created_by, p.archived_at IS NOT NULL AS archived, EXISTS (SELECT FROM begun) AS begun,
  w.enabled, w.max_per_hour, w.max_per_day, w.cooldown_s, coalesce(s.starts, '{}') AS starts, clock_timestamp() AS now
FROM actions a JOIN projects p ON p.id = a.project_id
LEFT JOIN wanted w ON w.id = a.id
LEFT JOIN action_starts s ON s.project_id = a.project_id AND s.action = a.action
WHERE a.id = $1
