-- Counts ARGV[1] events of webhooks for the realm KEYS[1] if it is disconnected. ARGV:
-- events, a test's clock.
if redis.call('HGET', KEYS[1], 'state') ~= 'disconnected' then return 0 end
local now = text(clock(ARGV[2]))
redis.call('HSETNX', KEYS[1], 'late_first', now)
redis.call('HSET', KEYS[1], 'late_last', now)
return redis.call('HINCRBY', KEYS[1], 'late_events', ARGV[1])
