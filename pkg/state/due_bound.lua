-- Makes realms due now that are due more than ARGV[2] ms ahead, 1,000 at most, and ends
-- claims that last longer. KEYS: due, claim, again. ARGV[1]: a test's clock.
local now = clock(ARGV[1])
local most = '(' .. text(now + tonumber(ARGV[2]))
local realms = redis.call('ZRANGEBYSCORE', KEYS[1], most, '+inf', 'LIMIT', 0, 1000)
for _, realm in ipairs(realms) do redis.call('ZADD', KEYS[1], text(now), realm) end
redis.call('ZREMRANGEBYSCORE', KEYS[2], most, '+inf')
for _, realm in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], most, '+inf', 'LIMIT', 0, 1000)) do
  redis.call('ZADD', KEYS[3], text(now), realm)
end
return #realms
