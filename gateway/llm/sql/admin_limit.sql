-- purpose: set a model's limits; both NULL is none
-- $1 model text: as the price table names it
-- $2 requests integer: a minute; NULL = no limit
-- $3 tokens bigint: a minute; NULL = no limit
-- $4 updated_by text: who
INSERT INTO model_limits (model, requests_per_minute, tokens_per_minute, updated_by) VALUES ($1, $2, $3, $4)
ON CONFLICT (model) DO UPDATE
SET requests_per_minute = excluded.requests_per_minute, tokens_per_minute = excluded.tokens_per_minute,
    updated_by = excluded.updated_by, updated_at = now()
