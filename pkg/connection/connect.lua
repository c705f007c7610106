-- Connects the realm KEYS[1]. ARGV: app, sealed token ('' is the one that waits for
-- approval, with its app), a test's clock. Returns the generation, or -1 if none waits.
local key, app, token, now = KEYS[1], ARGV[1], ARGV[2], text(clock(ARGV[3]))
if token == '' then
  token, app = redis.call('HGET', key, 'pending'), redis.call('HGET', key, 'pending_app') or ''
  if not token then return -1 end
end
local was = redis.call('HGET', key, 'state')
if not was or was == 'disconnected' or was == 'pending_approval' or was == 'erased' then redis.call('HSET', key, 'connected', now) end
if was ~= 'live' then redis.call('HSET', key, 'changed', now) end
redis.call('HSET', key, 'app', app, 'state', 'live', 'token', token)
redis.call('HDEL', key, 'reason', 'previous', 'refusal', 'refresh', 'presented', 'check', 'revoked')
redis.call('HDEL', key, 'pending', 'pending_app', 'pending_at')
redis.call('HDEL', key, 'rejected_at', 'holds', 'held', 'late_events', 'late_first', 'late_last')
unrefuse(key)
return redis.call('HINCRBY', key, 'generation', 1)
