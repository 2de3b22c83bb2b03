-- guarantee: the queue is no longer held and one waiting worker looks at once
-- KEYS[1] hold: see fetch.lua
-- KEYS[2] wake: list of at most one marker
-- returns: 1
redis.call('DEL', KEYS[1])
if redis.call('LLEN', KEYS[2]) == 0 then
  redis.call('LPUSH', KEYS[2], '1')
end
return 1
