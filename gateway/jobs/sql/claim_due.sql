-- purpose: take the next waiting jobs of a queue, highest priority first, straight from the ledger (direct mode)
-- $1 queue text: its name
-- $2 want integer: free slots
-- $3 worker text: who will hold them
-- $4 lease_ms double precision: how long they are held without renewal
-- $5 rate_max integer: starts in a window over all replicas; NULL = no limit
-- $6 window_ms integer: length of that window; NULL = no limit
WITH gate AS MATERIALIZED (
  SELECT permits, wait_s, paused FROM open_gate($1, $2, $5, $6)
), picked AS MATERIALIZED (
  SELECT id FROM jobs WHERE queue = $1 AND state = 'waiting' AND NOT blocked
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
