-- guarantee: the messages have the positions that follow the channel's last one, and those who watch are told once
-- KEYS[1] log: stream; the first half of an entry's id is its position, the second when it was written (microseconds)
-- ARGV[1] told: pub/sub channel of those who watch
-- ARGV[2] most: messages that are kept, about
-- ARGV[3] keep: milliseconds after which a log that nobody touches is forgotten
-- ARGV[4] doubt: microseconds; a log last written before that begins anew
-- ARGV[5] watched: 1 writes nothing where there is no log
-- ARGV[6...] bodies: the messages
-- returns: position of the first message, 0 when nothing was written
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if ARGV[5] == '1' and #last == 0 then
  return '0'
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local first = now
if #last > 0 then
  local at, written = string.match(last[1][1], '(%d+)-(%d+)')
  first = tonumber(at) + 1
  if tonumber(written) < tonumber(ARGV[4]) then
    first = math.max(first + 1, now)
  end
end
local bodies = {}
for i = 6, #ARGV do
  local id = string.format('%.0f-%.0f', first + i - 6, now)
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], id, 'm', ARGV[i])
  bodies[#bodies + 1] = ARGV[i]
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PUBLISH', ARGV[1], string.format('%.0f', first) .. '\n' .. table.concat(bodies, '\n'))
return string.format('%.0f', first)
