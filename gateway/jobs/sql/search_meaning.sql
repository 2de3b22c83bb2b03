-- purpose: what a word may stand for: the beginning of an id, or a dedupe key
-- $1 lowest uuid: first id that begins so; NULL = it can be no id
-- $2 above uuid: first id after all that begin so
-- $3 queues text[]: whose keys
-- $4 key text: the word
SELECT EXISTS (SELECT FROM jobs WHERE id >= $1::uuid AND id < $2::uuid) AS is_id,
       EXISTS (SELECT FROM jobs WHERE queue = ANY ($3::text[]) AND dedupe_key = $4) AS is_key
