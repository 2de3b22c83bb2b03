-- guarantee: changes nothing
-- KEYS[1...] logs: streams, see append.lua
-- returns: for each 1 if it exists, else 0
local found = {}
for i, key in ipairs(KEYS) do
  found[i] = redis.call('EXISTS', key)
end
return found
