-- Holds the token of a consent for the realm KEYS[1] until a person approves it. A realm
-- that has a connection keeps it. ARGV: app, sealed token, a test's clock.
local key, app, token, now = KEYS[1], ARGV[1], ARGV[2], text(clock(ARGV[3]))
local was = redis.call('HGET', key, 'state')
redis.call('HSETNX', key, 'generation', 0)
if not was or was == 'disconnected' or was == 'erased' then
  redis.call('HSET', key, 'state', 'pending_approval', 'changed', now, 'app', app)
  redis.call('HDEL', key, 'reason')
end
redis.call('HSET', key, 'pending', token, 'pending_app', app, 'pending_at', now)
return 1
