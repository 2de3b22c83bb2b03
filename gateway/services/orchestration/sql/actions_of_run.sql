-- purpose: How many actions a run's other steps have asked for, and whether this step's were recorded already.
-- $1 run_id uuid: the run
-- $2 step_id uuid: the step
SELECT count(*) FILTER (WHERE step_id <> $2) AS others, count(*) FILTER (WHERE step_id = $2) AS own
FROM actions WHERE run_id = $1
