-- purpose: Of these names, those with a price that is valid now, and whether that is nothing.
-- $1 names text[]: as models were asked for, and without their dates
SELECT DISTINCT ON (model) model, input_micros = 0 AND output_micros = 0 AS free
FROM model_prices WHERE model = ANY ($1) AND valid_from <= now()
ORDER BY model, valid_from DESC
