-- Takes the lease KEYS[1] and returns its fence, nil if somebody else holds it.
-- KEYS[2]: the last fence. ARGV: owner, time to live in ms.
local ours = redis.call('GET', KEYS[1]) == ARGV[1]
if ours then
  -- The first answer was lost on the way; the fence has not moved since.
  return redis.call('GET', KEYS[2])
end
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return false end

-- The clock, so that fences grow even when the last one was lost.
local t = redis.call('TIME')
local fence = tonumber(t[1]) * 1000000 + tonumber(t[2])
local last = tonumber(redis.call('GET', KEYS[2])) or 0
if fence <= last then fence = last + 1 end
local text = string.format('%.0f', fence)
redis.call('SET', KEYS[2], text, 'PX', 86400000)
return text
