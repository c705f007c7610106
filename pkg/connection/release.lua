-- Forgets the consent that waits for approval of the realm KEYS[1], if it is ARGV[1] still;
-- returns whether. A realm that has no other connection is disconnected then. ARGV: the
-- sealed token, reason, a test's clock.
local key = KEYS[1]
if redis.call('HGET', key, 'pending') ~= ARGV[1] then return 0 end
redis.call('HDEL', key, 'pending', 'pending_app', 'pending_at')
if redis.call('HGET', key, 'state') == 'pending_approval' then
  redis.call('HSET', key, 'state', 'disconnected', 'changed', text(clock(ARGV[3])), 'reason', ARGV[2])
  redis.call('HINCRBY', key, 'generation', 1)
end
return 1
