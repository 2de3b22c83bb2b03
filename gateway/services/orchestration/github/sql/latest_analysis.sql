-- purpose: The analysis that is kept of a project and a period.
-- $1 project_id uuid: whose
-- $2 period_hours int4: how far back it looks
SELECT analysis, analysed_at, greatest(extract(epoch FROM now() - analysed_at), 0)::float8 AS age_s
FROM analyses WHERE project_id = $1 AND period_hours = $2;
