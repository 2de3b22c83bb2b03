-- guarantee: the channel has a log, and it is not forgotten while somebody asks
-- KEYS[1] log: stream, see append.lua; an entry without a message marks where it begins
-- ARGV[1] keep: milliseconds after which a log that nobody touches is forgotten
-- returns: position of its last entry
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local at
if #last > 0 then
  at = string.match(last[1][1], '(%d+)-')
else
  local time = redis.call('TIME')
  at = string.format('%.0f', tonumber(time[1]) * 1000000 + tonumber(time[2]))
  redis.call('XADD', KEYS[1], at .. '-' .. at, 'b', '')
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return at
