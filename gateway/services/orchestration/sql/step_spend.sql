-- purpose: Add what a call cost to its step and to its run, whoever holds the step now: it is paid.
-- $1 id uuid: the step
-- $2 input_tokens bigint: read
-- $3 output_tokens bigint: written
-- $4 cost_micros bigint: millionths of a US dollar
-- $5 latency_ms integer: of all rounds
-- $6 demo boolean: the labelled demonstration spoke
-- $7 calls integer: of the model, repairs and failed ones too
WITH step AS (
  UPDATE run_steps SET input_tokens = input_tokens + $2, output_tokens = output_tokens + $3,
    cost_micros = cost_micros + $4, latency_ms = coalesce(latency_ms, 0) + $5, calls = calls + $7
  WHERE id = $1 RETURNING run_id
)
UPDATE runs r SET input_tokens = r.input_tokens + $2, output_tokens = r.output_tokens + $3,
  cost_micros = r.cost_micros + $4, demo = r.demo OR $6
FROM step WHERE r.id = step.run_id
RETURNING r.cost_micros
