-- Connects the realm KEYS[1]. ARGV: app, sealed token, a test's clock.
local key, app, token, now = KEYS[1], ARGV[1], ARGV[2], text(clock(ARGV[3]))
local was = redis.call('HGET', key, 'state')
if not was or was == 'disconnected' then redis.call('HSET', key, 'connected', now) end
if was ~= 'live' then redis.call('HSET', key, 'changed', now) end
redis.call('HSET', key, 'app', app, 'state', 'live', 'token', token)
redis.call('HDEL', key, 'reason', 'previous', 'refusal', 'refresh', 'presented', 'check', 'revoked')
redis.call('HDEL', key, 'rejected_at', 'holds', 'held', 'late_events', 'late_first', 'late_last')
unrefuse(key)
return redis.call('HINCRBY', key, 'generation', 1)
