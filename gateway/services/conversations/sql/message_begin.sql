-- purpose: an attempt begins; nothing when the message is answered, cancelled or another job's, or this attempt is an old one
-- $1 id uuid: the message
-- $2 job_id uuid: the attempt's job
-- $3 fence bigint: the attempt's
-- $4 stage text: what it does; NULL = as it stands
-- $5 percent smallint: how far it is at least
UPDATE messages SET
  status = 'running', fence = $3, stage = coalesce($4, stage), percent = greatest(percent, $5),
  started_at = coalesce(started_at, clock_timestamp()), finished_at = NULL, error = NULL, error_kind = NULL, told = NULL
WHERE id = $1 AND current_job_id = $2 AND fence <= $3 AND status IN ('queued', 'running', 'failed')
RETURNING *
