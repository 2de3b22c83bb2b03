-- purpose: forget operations that ended long ago
-- $1 keep_s double precision: seconds
DELETE FROM operations WHERE state <> 'running' AND finished_at < now() - $1 * interval '1 second'
