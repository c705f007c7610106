-- Ends the claim of the realm ARGV[1] and makes it due at ARGV[2], '' is never,
-- or when it was asked for meanwhile. KEYS: due, claim, again.
local realm, at = ARGV[1], ARGV[2]
redis.call('ZREM', KEYS[2], realm)
local again = redis.call('ZSCORE', KEYS[3], realm)
if again then
  redis.call('ZREM', KEYS[3], realm)
  if at == '' or tonumber(again) < tonumber(at) then at = again end
end
if at == '' then
  redis.call('ZREM', KEYS[1], realm)
else
  redis.call('ZADD', KEYS[1], at, realm)
end
return redis.status_reply('OK')
