-- purpose: end attempts; only those whose fence still holds change anything
-- $1 ids uuid[]: the jobs
-- $2 fences bigint[]: what this process claimed them with
-- $3 states text[]: completed, failed, cancelled, delayed or waiting
-- $4 results text[]: JSON or NULL
-- $5 errors text[]: reason for people, or NULL
-- $6 entries text[]: JSON object for the list of attempts' errors, or NULL
-- $7 delays_s double precision[]: for delayed: seconds from now
-- $8 refunds integer[]: 1 when the attempt does not count
-- $9 begun bool[]: false when the task was not started: the deadline for its start stays
UPDATE jobs j SET
  -- who asked for its end does not want another try: what would wait again is cancelled
  state = CASE WHEN j.cancel_reason IS NOT NULL AND x.state IN ('waiting', 'delayed') THEN 'cancelled' ELSE x.state END,
  result = x.result::jsonb,
  error = CASE WHEN x.state = 'completed' THEN NULL
               WHEN x.state IN ('waiting', 'delayed') THEN coalesce(j.cancel_reason, x.error, j.error)
               ELSE coalesce(x.error, j.error) END,
  -- the last 50: a job that is snoozed for days must not grow without end
  errors = CASE WHEN x.entry IS NULL THEN j.errors
                WHEN jsonb_array_length(j.errors) >= 50 THEN (j.errors - 0) || x.entry::jsonb
                ELSE j.errors || x.entry::jsonb END,
  attempts = j.attempts - x.refund,
  run_at = CASE WHEN x.state IN ('delayed', 'waiting') THEN now() + x.delay_s * interval '1 second' ELSE j.run_at END,
  finished_at = CASE WHEN x.state IN ('completed', 'failed', 'cancelled') OR j.cancel_reason IS NOT NULL THEN now() END,
  lease_until = NULL,
  expires_at = CASE WHEN x.begun THEN NULL ELSE j.expires_at END
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::double precision[], $8::integer[],
            $9::boolean[])
  AS x(id, fence, state, result, error, entry, delay_s, refund, begun)
-- `= ANY` and CASE hold the plan to the primary key whatever the statistics say (docs/architecture.md). CASE, because the
-- planner takes it for true of every second row: for one row it would compare all jobs with all, 0.6 ms of 50.
WHERE j.id = ANY ($1::uuid[]) AND j.id = x.id AND j.fence = x.fence AND CASE j.state WHEN 'active' THEN true ELSE false END
RETURNING j.id, j.fence, j.queue, j.state, j.priority, j.seq, j.group_key
