-- purpose: keep the answer, if this attempt still works on the message
-- $1 id uuid: the message
-- $2 job_id uuid: the attempt's job
-- $3 fence bigint: the attempt's
-- $4 answer text: what was answered
-- $5 refused boolean: it is a refusal
-- $6 demo boolean: no model was asked
-- $7 provider text: who answered
UPDATE messages SET
  status = 'completed', stage = 'done', percent = 100, answer = $4, refused = $5, demo = demo OR $6, provider = $7,
  partial = NULL, error = NULL, error_kind = NULL, finished_at = clock_timestamp()
WHERE id = $1 AND current_job_id = $2 AND fence = $3 AND status = 'running'
RETURNING id
