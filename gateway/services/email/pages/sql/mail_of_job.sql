-- purpose: The mail that a job sends.
-- $1 job_id uuid: the job
SELECT id, subject FROM emails WHERE job_id = $1;
