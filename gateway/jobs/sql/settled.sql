-- purpose: those of these settlements that were committed although their answer was lost
-- $1 ids uuid[]: the jobs
-- $2 fences bigint[]: what this process claimed them with
-- $3 states text[]: what they were settled as
SELECT j.id, j.fence, j.queue, j.state, j.priority, j.seq, j.group_key
FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS x(id, fence, state)
JOIN jobs j ON j.id = x.id AND j.fence = x.fence AND (j.state = x.state OR j.cancel_reason IS NOT NULL AND j.state = 'cancelled')
WHERE j.id = ANY ($1::uuid[])
