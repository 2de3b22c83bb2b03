-- purpose: delete the oldest completed jobs of one queue beyond the number to keep
-- $1 queue text: its name
-- $2 keep bigint: the newest so many stay
-- $3 limit bigint: at most so many in one statement
WITH old AS MATERIALIZED (
  SELECT id FROM jobs WHERE queue = $1 AND state = 'completed'
  ORDER BY finished_at DESC, id OFFSET $2 LIMIT $3
)
DELETE FROM jobs WHERE id = ANY (ARRAY(SELECT id FROM old))
RETURNING id
