-- purpose: hold on to running jobs; those left out of the answer are lost to their holder
-- $1 ids uuid[]: the jobs
-- $2 fences bigint[]: what this process claimed them with
-- $3 lease_ms double precision: from now
UPDATE jobs j SET lease_until = now() + $3 * interval '1 millisecond'
FROM unnest($1::uuid[], $2::bigint[]) AS x(id, fence)
WHERE j.id = ANY ($1::uuid[]) AND j.id = x.id AND j.fence = x.fence AND j.state || '' = 'active'
RETURNING j.id, j.fence
