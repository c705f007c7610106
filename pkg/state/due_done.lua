-- Ends the claim of the realm ARGV[1] and makes it due at ARGV[2], '' is never,
-- or when it was asked for meanwhile. KEYS: due, claim, again.
local realm, at = ARGV[1], ARGV[2]
local claimed = redis.call('ZREM', KEYS[2], realm) == 1
local again = redis.call('ZSCORE', KEYS[3], realm)
if again then
  redis.call('ZREM', KEYS[3], realm)
  if at == '' or tonumber(again) < tonumber(at) then at = again end
end
if at == '' then
  redis.call('ZREM', KEYS[1], realm)
elseif claimed then
  redis.call('ZADD', KEYS[1], at, realm)
else
  -- Somebody else took the claim over and ended it: what is on the schedule now
  -- was asked for since.
  redis.call('ZADD', KEYS[1], 'LT', at, realm)
end
return redis.status_reply('OK')
