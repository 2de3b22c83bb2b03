-- purpose: Keep an analysis, unless a later one is there.
-- $1 project_id uuid: whose
-- $2 period_hours int4: how far back it looks
-- $3 repository text: of what
-- $4 run_id uuid: the run that made it, NULL if somebody asked for it
-- $5 analysis jsonb: as it is shown
-- $6 analysed_at timestamptz: the end of its period
INSERT INTO analyses AS a (project_id, period_hours, repository, run_id, analysis, analysed_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (project_id, period_hours) DO UPDATE SET repository = excluded.repository, run_id = excluded.run_id,
  analysis = excluded.analysis, analysed_at = excluded.analysed_at
WHERE a.analysed_at <= excluded.analysed_at;
