-- purpose: What a job of the orchestration queue works on.
-- $1 id uuid: the job
SELECT (SELECT r.id FROM runs r WHERE r.id = $1) AS run_id,
  (SELECT j.args ->> 'actionId' FROM jobs j WHERE j.id = $1) AS action_id
