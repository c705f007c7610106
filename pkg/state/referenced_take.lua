-- Takes all members once in a time. KEYS: a set, when it was last taken in ms.
-- ARGV: now and the time, in ms.
local now, every = tonumber(ARGV[1]), tonumber(ARGV[2])
local last = tonumber(redis.call('GET', KEYS[2]))
if last and last <= now and now - last < every then return {} end
local all = redis.call('SMEMBERS', KEYS[1])
if #all > 0 then
  redis.call('DEL', KEYS[1])
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
end
return all
