-- purpose: how many jobs of a queue match; reads all that may
-- $1 queue text: its name
-- $2 states text[]: theirs
-- $3 lowest uuid: no smaller id
-- $4 below uuid: only smaller ids
-- $5 error text: LIKE pattern of the error and a line's end; NULL = any
-- $6 path text[]: where in the argument; NULL = anywhere
-- $7 value text: what stands at that path
-- $8 since timestamptz: accepted then or later; NULL = ever
-- $9 until timestamptz: accepted before then; NULL = ever
-- $10 key text: the dedupe key; NULL = any
-- $11 group_key text: whose they are; NULL = anybody's
SELECT count(*) FROM jobs
WHERE queue = $1 AND state = ANY ($2::text[])
  AND id >= $3::uuid AND id < $4::uuid
  AND ($5::text IS NULL OR lower(error) || chr(10) LIKE lower($5::text))
  AND ($6::text[] IS NULL OR args #>> $6::text[] = $7::text)
  AND ($8::timestamptz IS NULL OR created_at >= $8::timestamptz)
  AND ($9::timestamptz IS NULL OR created_at < $9::timestamptz)
  AND ($10::text IS NULL OR dedupe_key = $10::text)
  AND ($11::text IS NULL OR group_key = $11::text)
