-- purpose: jobs among the newest of all that have a tag; the last one looked at is there too, to go on from
-- $1 tag text: the tag
-- $2 lowest uuid: no smaller id
-- $3 below uuid: only smaller ids
-- $4 depth bigint: how many jobs are looked at
SELECT id, n, matched FROM (
  SELECT id, row_number() OVER newest AS n, lead(id) OVER newest IS NULL AS last, tags @> ARRAY[$1::text] AS matched
  FROM (SELECT id, tags FROM jobs WHERE id >= $2::uuid AND id < $3::uuid ORDER BY id DESC LIMIT $4) seen
  WINDOW newest AS (ORDER BY id DESC)
) judged
WHERE matched OR last
ORDER BY id DESC
