-- A call about a realm is still under way. What Redis knows of it stays as it is.
-- KEYS: slots.
local slots, id, hold = KEYS[1], ARGV[1], tonumber(ARGV[2])

-- Lua prints large numbers with an exponent.
local function text(n) return string.format('%.0f', n) end

local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
if redis.call('ZADD', slots, 'NX', text(now + hold), id) == 1 then
  redis.call('PEXPIRE', slots, text(hold / 1000 + 1000))
end
return 0
