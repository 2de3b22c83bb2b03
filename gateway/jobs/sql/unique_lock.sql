-- purpose: one submit of a key at a time, until the end of the transaction
-- $1 queue text: the queue's name
-- $2 key text: dedupe key
SELECT pg_advisory_xact_lock(hashtextextended($1 || ' ' || $2, 7))
