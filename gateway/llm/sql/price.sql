-- purpose: the price of a model that is valid now, under the first of its names that has one
-- $1 names text[]: as it was asked for, then without its date
SELECT model, provider, input_micros, output_micros
FROM model_prices
WHERE model = ANY ($1::text[]) AND valid_from <= now()
ORDER BY array_position($1::text[], model), valid_from DESC
LIMIT 1
