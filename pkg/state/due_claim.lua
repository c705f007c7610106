-- Claims realms due at ARGV[1] until ARGV[2], ARGV[3] of them at most.
-- KEYS: due, claim, again. A claim that ran out is due like any other realm.
local realms = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, realm in ipairs(realms) do
  redis.call('ZADD', KEYS[1], ARGV[2], realm)
  redis.call('ZADD', KEYS[2], ARGV[2], realm)
  -- This claim is what was asked for during the one that ran out.
  local again = redis.call('ZSCORE', KEYS[3], realm)
  if again and tonumber(again) <= tonumber(ARGV[1]) then redis.call('ZREM', KEYS[3], realm) end
end
return realms
