-- purpose: each model that has a price or a limit, with the price that is valid now and what its limit's minute holds
SELECT coalesce(p.model, m.model) AS model, p.provider, p.input_micros, p.output_micros, p.valid_from, p.seen_on,
       m.requests_per_minute, m.tokens_per_minute,
       coalesce(u.calls, 0) AS requests_now, coalesce(u.tokens, 0)::bigint AS tokens_now
FROM (SELECT DISTINCT ON (model) * FROM model_prices WHERE valid_from <= now() ORDER BY model, valid_from DESC) p
FULL JOIN model_limits m ON m.model = p.model
LEFT JOIN LATERAL (
  SELECT count(*) AS calls, sum(c.tokens) AS tokens
  FROM model_calls c WHERE c.model = m.model AND c.at > now() - interval '1 minute') u ON true
ORDER BY p.provider NULLS LAST, 1
