-- purpose: what a job's attempts reported, the newest first
-- $1 job_id uuid: its id
-- $2 limit bigint: of so many attempts
SELECT fence, attempt, percent, stage, progress_at, lines FROM job_reports WHERE job_id = $1 ORDER BY fence DESC LIMIT $2
