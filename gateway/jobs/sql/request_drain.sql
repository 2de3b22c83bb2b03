-- purpose: ask a live replica to take no further job, or to be empty by a moment; it reads that with its next sign of life
-- $1 id text: the replica
-- $2 alive_s double precision: it lives when it was seen within so many seconds
-- $3 within_s double precision: seconds after which its machine may be gone; NULL: its jobs may end
UPDATE replicas SET drain_requested = true,
  drain_by = least(drain_by, now() + $3 * interval '1 second')
WHERE id = $1 AND seen_at > now() - $2 * interval '1 second'
RETURNING id
