-- purpose: How the work on a step ended, said by who holds it; answers nothing for anybody else.
-- $1 id uuid: the step
-- $2 fence bigint: of the attempt
-- $3 status text: completed, failed, refused, or waiting: it is to be tried again and this did not count
-- $4 output jsonb: what fitted the schema
-- $5 partial_text text: what had come when it was cut
-- $6 refusal text: how the model put it
-- $7 error text: why, for people
-- $8 error_kind text: why, a bounded word
-- $9 provider text: who answered
-- $10 demo boolean: nobody did, the labelled demonstration spoke
UPDATE run_steps SET status = $3, output = $4, partial_text = $5, refusal = $6, error = $7, error_kind = $8,
  provider = coalesce($9, provider), demo = $10, attempts = attempts - CASE WHEN $3 = 'waiting' THEN 1 ELSE 0 END,
  finished_at = CASE WHEN $3 = 'waiting' THEN NULL ELSE clock_timestamp() END
WHERE id = $1 AND fence = $2 AND status = 'running'
RETURNING id
