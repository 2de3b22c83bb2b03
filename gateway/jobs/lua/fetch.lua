-- guarantee: each id is handed out once; nothing while the queue is held; what is left wakes the next worker
-- KEYS[1] ready: sorted set of job ids
-- KEYS[2] wake: list of at most one marker
-- KEYS[3] hold: 'limited' or 'paused' while starting jobs is in vain; expires by itself
-- ARGV[1] want: at most so many ids
-- returns: {milliseconds the queue is still held (0: not held), why, id, id, ...}
local held = redis.call('PTTL', KEYS[3])
if held > 0 then
  return {held, redis.call('GET', KEYS[3])}
end
local popped = redis.call('ZPOPMIN', KEYS[1], ARGV[1])
local answer = {0, ''}
for i = 1, #popped, 2 do
  answer[#answer + 1] = popped[i]
end
if redis.call('ZCARD', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[2])
elseif redis.call('LLEN', KEYS[2]) == 0 then
  redis.call('LPUSH', KEYS[2], '1')
end
return answer
