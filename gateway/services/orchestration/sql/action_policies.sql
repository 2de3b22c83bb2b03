-- purpose: The rules of a project's actions where rows replace the built-in ones, and how much of their limits is used.
-- $1 project_id uuid: the project
-- $2 actions text[]: kinds
-- What waits counts from when it was asked for, what was started from its start.
SELECT k.action, c.id IS NOT NULL AS configured, c.enabled, c.requires_approval, c.risk, c.max_per_hour, c.max_per_day,
  c.cooldown_s, u.hour, u.day, u.last_start, now() AS now
FROM unnest($2::text[]) AS k(action)
LEFT JOIN action_configs c ON c.project_id = $1 AND c.action = k.action
CROSS JOIN LATERAL (
  SELECT count(*) FILTER (WHERE x.at > now() - interval '1 hour') AS hour,
    count(*) FILTER (WHERE x.at > now() - interval '1 day') AS day, max(x.start) AS last_start
  FROM (
    SELECT a.executed_at AS at, a.executed_at AS start FROM actions a
    WHERE a.project_id = $1 AND a.action = k.action AND a.executed_at > now() - interval '1 day'
    UNION ALL
    SELECT a.created_at,
      CASE WHEN a.status = 'approved' THEN coalesce(a.not_before, a.decided_at, a.created_at) END
    FROM actions a
    WHERE a.project_id = $1 AND a.action = k.action AND a.status IN ('pending', 'approved') AND a.executed_at IS NULL
  ) x
) u
