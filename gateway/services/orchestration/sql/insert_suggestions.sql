-- purpose: Keep the suggestions of a step; those that are there already stay as they are.
-- $1 project_id uuid: whose they are
-- $2 run_id uuid: the run
-- $3 step_id uuid: the step
-- $4 agent_slug text: who suggests
-- $5 points jsonb: array of {id, position, title, detail, priority}
-- $6 most bigint: suggestions that a run may have
-- $7 keep_s double precision: seconds until an undecided one expires
INSERT INTO suggestions (id, project_id, run_id, step_id, position, agent_slug, title, detail, priority, expires_at)
SELECT x.id, $1, $2, $3, x.position, $4, x.title, x.detail, x.priority, now() + make_interval(secs => $7)
FROM jsonb_to_recordset($5) AS x(id uuid, position int, title text, detail text, priority int)
ORDER BY x.position
LIMIT greatest(0, $6::bigint - (SELECT count(*) FROM suggestions s WHERE s.run_id = $2 AND s.step_id <> $3))
ON CONFLICT (step_id, position) DO NOTHING
RETURNING id
