-- purpose: attempts of one queue by time, in steps of equal length up to now
-- $1 queue text: its name
-- $2 range_s double precision: how far back
-- $3 step_s double precision: length of a step
WITH spread AS (
  SELECT to_timestamp(floor(extract(epoch FROM h.minute)::double precision / $3::double precision) * $3::double precision) AS at, b.n,
         sum(coalesce(b.waited, 0))::integer AS waited, sum(coalesce(b.ran, 0))::integer AS ran
  FROM queue_history AS h, unnest(h.wait_buckets, h.run_buckets) WITH ORDINALITY AS b(waited, ran, n)
  WHERE h.queue = $1 AND h.minute > now() - $2::double precision * interval '1 second'
  GROUP BY 1, 2
)
SELECT at, array_agg(waited ORDER BY n) AS waits, array_agg(ran ORDER BY n) AS runs FROM spread GROUP BY at ORDER BY at
