-- Reserves the token before that of generation ARGV[1] of the realm KEYS[1] for one
-- presentation at Intuit; returns whether it was not presented yet.
if redis.call('HGET', KEYS[1], 'generation') ~= ARGV[1] then return 0 end
if redis.call('HGET', KEYS[1], 'presented') == ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'presented', ARGV[1])
return 1
