-- purpose: how many jobs ended long enough ago, counted up to a bound
-- $1 queue text: its name
-- $2 states text[]: completed, failed or both
-- $3 older_than_s double precision: ended before so many seconds
-- $4 most bigint: counting ends here
SELECT count(*) FROM (
  SELECT FROM jobs
  WHERE queue = $1 AND state IN ('completed', 'failed') AND state = ANY ($2::text[])
    AND finished_at < now() - $3 * interval '1 second'
  LIMIT $4
) AS found
