-- purpose: jobs that have a tag, in no order: by its index
-- $1 tag text: the tag
-- $2 lowest uuid: no smaller id
-- $3 below uuid: only smaller ids
-- $4 limit bigint: how many are answered
SELECT id FROM jobs WHERE tags <> '{}' AND tags @> ARRAY[$1::text] AND id >= $2::uuid AND id < $3::uuid LIMIT $4
