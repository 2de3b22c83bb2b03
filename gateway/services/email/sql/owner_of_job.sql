-- purpose: Whose mail a job sends.
-- $1 job_id uuid: the job
SELECT owner FROM emails WHERE job_id = $1;
