-- Claims jobs that nobody holds for ARGV[2] ms, ARGV[3] of them at most. A claim that
-- ends more than ARGV[4] ms ahead holds nobody off. KEYS: jobs. ARGV[1]: a test's clock.
local now = clock(ARGV[1])
local till, most = text(now + tonumber(ARGV[2])), now + tonumber(ARGV[4])
for _, realm in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. text(most), '+inf')) do
  redis.call('ZADD', KEYS[1], text(now), realm)
end
local realms = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(now), 'LIMIT', 0, ARGV[3])
for _, realm in ipairs(realms) do redis.call('ZADD', KEYS[1], till, realm) end
return realms
