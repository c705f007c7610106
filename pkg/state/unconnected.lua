-- Adds ARGV[1] to the set KEYS[1] of a day, which has at most ARGV[2] members and is gone
-- after ARGV[3] seconds. Returns 1 if it is the first time.
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 or redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
