-- Claims jobs that nobody holds at ARGV[1] until ARGV[2], ARGV[3] of them at most.
-- KEYS: jobs.
local realms = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, realm in ipairs(realms) do redis.call('ZADD', KEYS[1], ARGV[2], realm) end
return realms
