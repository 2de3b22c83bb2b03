-- purpose: a price from a date on; the same date again replaces it
-- $1 model text: its name
-- $2 provider text: who serves it
-- $3 input_micros bigint: millionths of a US dollar for a million tokens
-- $4 output_micros bigint: the same
-- $5 valid_from timestamptz: NULL = now
INSERT INTO model_prices (model, provider, input_micros, output_micros, valid_from)
VALUES ($1, $2, $3, $4, coalesce($5, now()))
ON CONFLICT (model, valid_from) DO UPDATE
SET provider = excluded.provider, input_micros = excluded.input_micros, output_micros = excluded.output_micros,
    seen_on = excluded.seen_on
