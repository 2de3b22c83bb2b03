-- purpose: take back active jobs whose lease ran out; at the stall limit they fail. Never charged as an attempt
-- $1 max_stalls integer: this stall fails the job
-- $2 limit bigint: at most so many in one statement
WITH lost AS MATERIALIZED (
  SELECT id FROM jobs WHERE state = 'active' AND lease_until < now() ORDER BY lease_until LIMIT $2 FOR UPDATE SKIP LOCKED
)
UPDATE jobs SET
  stalls = stalls + 1,
  state = CASE WHEN cancel_reason IS NOT NULL THEN 'cancelled' WHEN stalls + 1 >= $1 THEN 'failed' ELSE 'waiting' END,
  attempts = attempts - 1,
  error = CASE WHEN cancel_reason IS NOT NULL THEN cancel_reason
               WHEN stalls + 1 >= $1 THEN format('stalled %s times: its worker vanished', stalls + 1) ELSE error END,
  errors = errors || jsonb_build_object('attempt', attempts, 'kind', 'stalled', 'error', 'its worker vanished',
                                        'at', now(), 'worker', worker, 'startedAt', claimed_at),
  run_at = now(),
  finished_at = CASE WHEN cancel_reason IS NOT NULL OR stalls + 1 >= $1 THEN now() END,
  lease_until = NULL,
  expires_at = NULL  -- it may have begun
WHERE id = ANY (ARRAY(SELECT id FROM lost))
RETURNING id, queue, state, priority, seq, group_key, stalls, worker
