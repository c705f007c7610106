-- Claims realms that have been due for ARGV[2] ms for ARGV[3] ms, ARGV[4] of them at
-- most. KEYS: due, claim, again. ARGV[1]: a test's clock. A claim that ran out is due
-- like any other realm.
local now = clock(ARGV[1])
local due, till = text(now - tonumber(ARGV[2])), text(now + tonumber(ARGV[3]))
local realms = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', due, 'LIMIT', 0, ARGV[4])
for _, realm in ipairs(realms) do
  redis.call('ZADD', KEYS[1], till, realm)
  redis.call('ZADD', KEYS[2], till, realm)
  -- This claim is what was asked for during the one that ran out.
  local again = redis.call('ZSCORE', KEYS[3], realm)
  if again and tonumber(again) <= now then redis.call('ZREM', KEYS[3], realm) end
end
return realms
