-- purpose: ask a live replica to take no further job; it reads that with its next sign of life
-- $1 id text: the replica
-- $2 within_s double precision: it lives when it was seen within so many seconds
UPDATE replicas SET drain_requested = true WHERE id = $1 AND seen_at > now() - $2 * interval '1 second'
RETURNING id
