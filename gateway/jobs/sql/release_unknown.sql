-- purpose: hand back what this replica claimed without ever hearing of it (the claim's answer was lost): no stall, no attempt, and its deadline stays
-- $1 worker text: this replica
-- $2 running uuid[]: what it does run
-- $3 grace_s double precision: claims younger than that may still be on their way to a slot
UPDATE jobs SET state = CASE WHEN cancel_reason IS NULL THEN 'waiting' ELSE 'cancelled' END,
  error = coalesce(cancel_reason, error), finished_at = CASE WHEN cancel_reason IS NOT NULL THEN now() END, attempts = attempts - 1, lease_until = NULL, run_at = now()
WHERE state = 'active' AND worker = $1 AND id <> ALL ($2::uuid[]) AND claimed_at < now() - $3 * interval '1 second'
RETURNING id, queue, state, priority, seq, group_key
