-- purpose: add what a call cost, whoever works on the message now
-- $1 id uuid: the message
-- $2 input_tokens bigint: tokens
-- $3 output_tokens bigint: tokens
-- $4 cost_micros bigint: millionths of a US dollar
-- $5 partial text: what had come of an answer that was cut; NULL = nothing
UPDATE messages SET
  input_tokens = input_tokens + $2, output_tokens = output_tokens + $3, cost_micros = cost_micros + $4,
  partial = CASE WHEN status = 'completed' THEN NULL ELSE coalesce($5, partial) END
WHERE id = $1
