-- purpose: The steps of a run, in their order.
-- $1 run_id uuid: the run
SELECT id, run_id, position, kind, agent_slug, status, attempts, output, partial_text, refusal, error, error_kind, model,
  provider, prompt_sha256, input_tokens, output_tokens, cost_micros, latency_ms, demo, started_at, finished_at, taken_from
FROM run_steps WHERE run_id = $1 ORDER BY position
