-- Ends the claim of the realm ARGV[2] and makes it due in ARGV[3] ms, '' is never, or
-- when it was asked for meanwhile. KEYS: due, claim, again. ARGV[1]: a test's clock.
local realm, at = ARGV[2], nil
if ARGV[3] ~= '' then at = clock(ARGV[1]) + tonumber(ARGV[3]) end
local claimed = redis.call('ZREM', KEYS[2], realm) == 1
local again = redis.call('ZSCORE', KEYS[3], realm)
if again then
  redis.call('ZREM', KEYS[3], realm)
  if not at or tonumber(again) < at then at = tonumber(again) end
end
if not at then
  redis.call('ZREM', KEYS[1], realm)
elseif claimed then
  redis.call('ZADD', KEYS[1], text(at), realm)
else
  -- Somebody else took the claim over and ended it: what is on the schedule now
  -- was asked for since.
  redis.call('ZADD', KEYS[1], 'LT', text(at), realm)
end
return redis.status_reply('OK')
