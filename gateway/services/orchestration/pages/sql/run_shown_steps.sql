-- purpose: The steps of a run in their order, with as much of each text as a page shows.
-- $1 run_id uuid: the run
-- $2 shown int: at most so many characters of a text
-- $3 limit bigint: at most so many steps
SELECT s.id, s.position, s.kind, s.agent_slug, s.status, s.attempts, s.model, s.provider, s.prompt_sha256, s.calls,
  s.input_tokens, s.output_tokens, s.cost_micros, s.latency_ms, s.demo, s.started_at, s.finished_at, s.taken_from,
  s.error_kind, left(s.error, $2) AS error, left(s.refusal, $2) AS refusal,
  left(s.partial_text, $2) AS partial, length(s.partial_text) AS partial_length,
  left(o.output, $2) AS output, length(o.output) AS output_length
FROM (SELECT * FROM run_steps WHERE run_id = $1 ORDER BY position LIMIT $3) s
CROSS JOIN LATERAL (SELECT s.output::text AS output) o
ORDER BY s.position
