-- purpose: what attempts reported since the last time; answers those that may still report
-- $1 ids uuid[]: the jobs
-- $2 fences bigint[]: of the attempts
-- $3 attempts integer[]: their numbers
-- $4 ended bool[]: the attempt was settled, so another one may have the job by now
-- $5 percents smallint[]: how far; NULL = unknown
-- $6 stages text[]: what they do; NULL = unknown
-- $7 progress_at timestamptz[]: since when; NULL = nothing was said
-- $8 lines integer[]: how many lines they wrote in all
-- $9 line_ids uuid[]: jobs of the new lines
-- $10 line_fences bigint[]: their attempts
-- $11 numbers integer[]: of the lines
-- $12 times timestamptz[]: when they were written
-- $13 texts text[]: the lines
-- $14 lines_kept integer: of each attempt
-- $15 attempts_kept integer: of each job
WITH held AS MATERIALIZED (
  SELECT x.* FROM jobs j
  JOIN unnest($1::uuid[], $2::bigint[], $3::integer[], $4::boolean[], $5::smallint[], $6::text[], $7::timestamptz[], $8::integer[])
    AS x(id, fence, attempt, ended, percent, stage, progress_at, lines) ON j.id = x.id
  WHERE j.id = ANY ($1::uuid[]) AND (j.fence = x.fence OR (x.ended AND j.fence > x.fence))
  ORDER BY j.id FOR KEY SHARE OF j  -- who deletes the job waits, and takes these rows along
), reported AS (
  INSERT INTO job_reports AS r (job_id, fence, attempt, percent, stage, progress_at, lines)
  SELECT id, fence, attempt, percent, stage, progress_at, lines FROM held
  ON CONFLICT (job_id, fence) DO UPDATE SET
    percent = excluded.percent, stage = excluded.stage, progress_at = excluded.progress_at, lines = excluded.lines
), logged AS (
  INSERT INTO job_log_lines (job_id, fence, number, at, text)
  SELECT l.id, l.fence, l.number, l.at, l.text
  FROM unnest($9::uuid[], $10::bigint[], $11::integer[], $12::timestamptz[], $13::text[]) AS l(id, fence, number, at, text)
  JOIN held h ON h.id = l.id AND h.fence = l.fence
  ON CONFLICT DO NOTHING  -- an answer was lost, and it is written again
), old_lines AS (
  DELETE FROM job_log_lines l USING held h
  WHERE l.job_id = ANY ($1::uuid[]) AND l.job_id = h.id
    AND (l.fence <= h.fence - $15::integer OR (l.fence = h.fence AND l.number <= h.lines - $14::integer))
), old_attempts AS (
  DELETE FROM job_reports r USING held h
  WHERE r.job_id = ANY ($1::uuid[]) AND r.job_id = h.id AND r.fence <= h.fence - $15::integer
)
SELECT id, fence FROM held
