-- purpose: matching jobs among the newest that are delayed, failed or cancelled; the last one looked at is there too
-- $1 queues text[]: theirs
-- $2 states text[]: theirs
-- $3 lowest uuid: no smaller id
-- $4 below uuid: only smaller ids
-- $5 error text: LIKE pattern of the error and a line's end; NULL = any
-- $6 path text[]: where in the argument; NULL = anywhere
-- $7 value text: what stands at that path
-- $8 since timestamptz: accepted then or later; NULL = ever
-- $9 until timestamptz: accepted before then; NULL = ever
-- $10 depth bigint: how many jobs are looked at
-- $11 limit bigint: how many are answered
SELECT id, n, matched FROM (
  SELECT id, row_number() OVER newest AS n, lead(id) OVER newest IS NULL AS last,
         ($5::text IS NULL OR lower(error) || chr(10) LIKE lower($5::text))
         AND ($6::text[] IS NULL OR args #>> $6::text[] = $7::text)
         AND ($8::timestamptz IS NULL OR created_at >= $8::timestamptz)
         AND ($9::timestamptz IS NULL OR created_at < $9::timestamptz) AS matched
  FROM (
    SELECT one.id, one.queue, one.state, one.error, one.args, one.created_at
    FROM unnest($1::text[]) AS q(name) CROSS JOIN unnest($2::text[]) AS s(name) CROSS JOIN LATERAL (
      SELECT id, queue, state, error, args, created_at FROM jobs
      WHERE queue = q.name AND state = s.name AND state IN ('delayed', 'failed', 'cancelled')
        AND id >= $3::uuid AND id < $4::uuid
      ORDER BY id DESC LIMIT $10
    ) one
    ORDER BY one.id DESC LIMIT $10
  ) seen
  WINDOW newest AS (ORDER BY id DESC)
) judged
WHERE matched OR last
ORDER BY id DESC LIMIT $11
