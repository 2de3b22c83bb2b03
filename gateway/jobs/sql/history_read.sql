-- purpose: the numbers of queues, in steps of equal length up to now; steps in which nothing was seen have no row
-- $1 queues text[]: their names
-- $2 range_s double precision: how far back
-- $3 step_s double precision: length of a step
SELECT queue, to_timestamp(floor(extract(epoch FROM minute)::double precision / $3::double precision) * $3::double precision) AS at,
       sum(completed)::integer AS completed, sum(failed)::integer AS failed, sum(retried)::integer AS retried,
       max(waiting) AS waiting, max(active) AS active, max(delayed) AS delayed
FROM queue_history
WHERE queue = ANY ($1) AND minute > now() - $2::double precision * interval '1 second'
GROUP BY 1, 2
ORDER BY 1, 2
