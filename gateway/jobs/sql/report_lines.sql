-- purpose: the newest lines of a job's log
-- $1 job_id uuid: its id
-- $2 limit bigint: so many
SELECT fence, at, text FROM job_log_lines WHERE job_id = $1 ORDER BY fence DESC, number DESC LIMIT $2
