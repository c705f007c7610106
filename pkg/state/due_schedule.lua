-- Makes the realm ARGV[2] due, if that is earlier: 'at' the time ARGV[4], or 'in' that
-- time from now. KEYS: due, claim, again. ARGV[1]: a test's clock.
local realm, at = ARGV[2], tonumber(ARGV[4])
if ARGV[3] == 'in' then at = clock(ARGV[1]) + at end
local key = KEYS[1]
if redis.call('ZSCORE', KEYS[2], realm) then key = KEYS[3] end
redis.call('ZADD', key, 'LT', text(at), realm)
return redis.status_reply('OK')
