-- Counts ARGV[1] events of webhooks for the realm KEYS[1] if it is disconnected, and returns
-- whether that is for longer than ARGV[3] ms. ARGV: events, a test's clock, that time.
if redis.call('HGET', KEYS[1], 'state') ~= 'disconnected' then return 0 end
local now = text(clock(ARGV[2]))
redis.call('HSETNX', KEYS[1], 'late_first', now)
redis.call('HSET', KEYS[1], 'late_last', now)
redis.call('HINCRBY', KEYS[1], 'late_events', ARGV[1])
local changed = tonumber(redis.call('HGET', KEYS[1], 'changed') or '')
if changed and tonumber(now) - changed > tonumber(ARGV[3]) then return 1 end
return 0
