-- guarantee: the jobs are in the ready set once each, in their order; one waiting worker is woken
-- KEYS[1] ready: sorted set of job ids, score = band of the priority, then order of arrival
-- KEYS[2] wake: list of at most one marker; a waiting worker blocks on it
-- ARGV[1...] pairs: score and id of each job
-- returns: how many were not in the set before
local added = 0
for i = 1, #ARGV, 2 do
  added = added + redis.call('ZADD', KEYS[1], ARGV[i], ARGV[i + 1])
end
if redis.call('LLEN', KEYS[2]) == 0 then
  redis.call('LPUSH', KEYS[2], '1')
end
return added
