-- purpose: A step that was done in another run of the same work is done, for nothing.
-- $1 run_id uuid: the run, which the caller holds
-- $2 position integer: of the step
-- $3 kind text: agent or github_analysis
-- $4 agent_slug text: whose answer it is; NULL: nobody's
-- $5 from_id uuid: the step that was done
UPDATE run_steps s SET status = 'completed', output = d.output, model = d.model, provider = d.provider,
  prompt_sha256 = d.prompt_sha256, demo = d.demo, taken_from = coalesce(d.taken_from, d.id), error = NULL,
  error_kind = NULL, refusal = NULL, partial_text = NULL, finished_at = clock_timestamp()
FROM run_steps d
WHERE d.id = $5 AND s.run_id = $1 AND s.position = $2 AND s.kind = $3 AND s.agent_slug IS NOT DISTINCT FROM $4
  AND s.status <> 'completed'
