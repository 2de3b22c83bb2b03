-- purpose: let the next jobs of these groups become ready, as far as their limits go; answers them, and each group's wait
-- $1 queue text: their queue
-- $2 keys text[]: the groups
-- $3 concurrency integer: of one group over all replicas; NULL = no limit
-- $4 least_heads integer: how many jobs of one group may run or be ready however few slots are known
-- $5 rate_max integer: starts of one group in a window over all replicas; NULL = no limit
-- $6 window_ms integer: length of that window; NULL = no limit
-- Twice the slots (of replicas seen within records.ALIVE_S): with one group alone each slot finds its next job ready, and
-- another group's first job has no more than that before it.
SELECT group_key, wait_s, id, priority, seq
FROM give_turns(
  $1, $2::text[],
  least($3, greatest($4, 2 * (
    SELECT coalesce(sum((slots -> $1 ->> 'slots')::integer), 0)::integer FROM replicas
    WHERE NOT draining AND seen_at > now() - interval '15 seconds'))),
  $5, $6)
