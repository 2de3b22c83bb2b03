-- purpose: take those of these jobs that still wait (queue mode: Redis handed out the ids); the others are not touched
-- $1 queue text: its name
-- $2 ids uuid[]: what Redis handed out, highest priority first
-- $3 worker text: who will hold them
-- $4 lease_ms double precision: how long they are held without renewal
-- $5 rate_max integer: starts in a window over all replicas; NULL = no limit
-- $6 window_ms integer: length of that window; NULL = no limit
WITH gate AS MATERIALIZED (
  SELECT permits, wait_s, paused FROM open_gate($1, cardinality($2::uuid[]), $5, $6)
), picked AS MATERIALIZED (
  -- `state || ''` keeps the planner off the partial index of waiting jobs: its statistics are older than any burst
  SELECT id FROM jobs WHERE id = ANY ($2::uuid[]) AND queue = $1 AND state || '' = 'waiting' AND NOT blocked
    AND (expires_at IS NULL OR expires_at > clock_timestamp())
  ORDER BY priority DESC, seq
  LIMIT (SELECT permits FROM gate)
  FOR UPDATE SKIP LOCKED
), claimed AS (
  UPDATE jobs SET state = 'active', attempts = attempts + 1, fence = fence + 1, worker = $3, claimed_at = clock_timestamp(),
                  lease_until = clock_timestamp() + $4 * interval '1 millisecond'
  WHERE id = ANY (ARRAY(SELECT id FROM picked))
  RETURNING id, seq, queue, task, args, priority, attempts, max_attempts, fence, stalls, created_at, run_at, claimed_at,
            request_id, traceparent
), spent AS (
  SELECT spend($1, count(*), $6) FROM claimed
)
SELECT gate.permits, gate.wait_s, gate.paused, claimed.* FROM gate CROSS JOIN spent LEFT JOIN claimed ON true
