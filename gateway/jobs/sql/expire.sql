-- purpose: cancel jobs that have not started by their deadline; an attempt that began clears it, so retries have none
-- $1 limit bigint: at most so many in one statement
WITH late AS MATERIALIZED (
  SELECT id, 'not started by ' || to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS reason
  FROM jobs WHERE expires_at <= now() AND state IN ('waiting', 'delayed')
  ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE jobs j SET state = 'cancelled', finished_at = now(), error = 'expired: ' || late.reason,
  errors = j.errors || jsonb_build_object('attempt', j.attempts, 'kind', 'expired', 'error', late.reason, 'at', now())
FROM late WHERE j.id = ANY (ARRAY(SELECT id FROM late)) AND j.id = late.id
RETURNING j.queue
