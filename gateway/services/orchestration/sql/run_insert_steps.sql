-- purpose: The steps of a run; those that are there stay as they are.
-- $1 run_id uuid: the run
-- $2 steps jsonb: array of {id, position, kind, agent_slug, status, output, model, provider, prompt_sha256, demo, taken_from}
INSERT INTO run_steps (id, run_id, position, kind, agent_slug, status, output, model, provider, prompt_sha256, demo,
                       taken_from, finished_at)
SELECT x.id, $1, x.position, x.kind, x.agent_slug, x.status, x.output, x.model, x.provider, x.prompt_sha256, x.demo,
  x.taken_from, CASE WHEN x.status = 'completed' THEN clock_timestamp() END
FROM jsonb_to_recordset($2) AS x(id uuid, position int, kind text, agent_slug text, status text, output jsonb, model text,
                                 provider text, prompt_sha256 text, demo boolean, taken_from uuid)
ON CONFLICT (run_id, position) DO NOTHING
