-- purpose: forget the numbers of minutes long ago
-- $1 age_s double precision: how long they are kept
-- $2 limit integer: at most so many rows
DELETE FROM queue_history WHERE (queue, minute) IN (
  SELECT queue, minute FROM queue_history WHERE minute < now() - $1::double precision * interval '1 second' LIMIT $2::integer
)
