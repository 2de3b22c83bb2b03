-- purpose: what may hold a group's jobs back, and how many of them come before one; reads no more than a bound
-- $1 id uuid: the job that waits
-- $2 window_ms double precision: of the group rate; NULL = no limit
-- $3 most bigint: jobs before it are counted up to here
WITH me AS MATERIALIZED (
  SELECT queue, group_key, priority, coalesce(arrival, seq) AS place FROM jobs WHERE id = $1
), turns AS (
  SELECT count(*) FILTER (WHERE j.state = 'active') AS running, count(*) FILTER (WHERE j.state = 'waiting') AS ready
  FROM me JOIN jobs j ON j.queue = me.queue AND j.group_key = me.group_key AND j.has_turn
), window_starts AS (
  SELECT count(*) AS starts, min(s.at) + $2 * interval '1 millisecond' AS opens_at
  FROM me JOIN group_starts s ON s.queue = me.queue AND s.group_key = me.group_key
  WHERE s.at > now() - $2 * interval '1 millisecond'
)
SELECT turns.running, turns.ready, window_starts.starts, window_starts.opens_at, (
  SELECT count(*) FROM (
    SELECT FROM jobs j
    WHERE j.queue = (SELECT queue FROM me) AND j.group_key = (SELECT group_key FROM me)
      AND j.state = 'waiting' AND j.blocked
      AND (j.priority > (SELECT priority FROM me)
           OR j.priority = (SELECT priority FROM me) AND coalesce(j.arrival, j.seq) < (SELECT place FROM me))
    ORDER BY j.priority DESC, coalesce(j.arrival, j.seq) LIMIT $3
  ) before
) AS ahead
FROM turns CROSS JOIN window_starts
