-- purpose: a provider asked us to rest: pause a queue for some seconds, unless it is already paused for longer
-- $1 queue text: its name
-- $2 rest_s double precision: seconds from now
-- $3 reason text: for people
UPDATE queues SET paused_at = now(), paused_until = now() + $2 * interval '1 second', pause_reason = $3, updated_at = now()
WHERE name = $1
  AND (paused_at IS NULL OR paused_until < now() + $2 * interval '1 second')
RETURNING name
