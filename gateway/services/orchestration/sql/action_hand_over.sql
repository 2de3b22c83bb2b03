-- purpose: Another job has what is left of an action to do.
-- $1 id uuid: the action
-- $2 from_job uuid: the job that executes it so far
-- $3 to_job uuid: the other one
-- $4 outcome jsonb: what is known of its outcome
UPDATE actions SET job_id = $3, outcome = $4
WHERE id = $1 AND status = 'executing' AND job_id = $2
RETURNING id
