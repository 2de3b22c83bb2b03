-- purpose: What a job of the orchestration queue works on, and how far it is: steps, and those that are over.
-- $1 id uuid: the job
SELECT r.id AS run_id, (SELECT j.args ->> 'actionId' FROM jobs j WHERE j.id = $1) AS action_id, s.steps, s.over
FROM (SELECT $1::uuid AS id) AS asked
LEFT JOIN runs r USING (id)
CROSS JOIN LATERAL (
  SELECT count(*) AS steps, count(*) FILTER (WHERE status NOT IN ('waiting', 'running')) AS over
  FROM run_steps WHERE run_id = r.id) AS s
