-- Connects the realm KEYS[1]. A consent whose token was slow to store does not replace that
-- of a later one, which has ended it. ARGV: app, sealed token ('' is the one that waits for
-- approval, with its app), a test's clock, when the token was given in ms, and how long
-- storing one may take. Returns the generation, or -1 if no token waits.
local key, app, token, now = KEYS[1], ARGV[1], ARGV[2], text(clock(ARGV[3]))
if token == '' then
  token, app = redis.call('HGET', key, 'pending'), redis.call('HGET', key, 'pending_app') or ''
  if not token then return -1 end
end
local was = redis.call('HGET', key, 'state')
local given, newest = tonumber(ARGV[4]), tonumber(redis.call('HGET', key, 'consented') or '0') or 0
if was == 'live' and newest > given and newest - given <= tonumber(ARGV[5]) then return 0 end
redis.call('HSET', key, 'consented', text(given))
if not was or was == 'disconnected' or was == 'pending_approval' or was == 'erased' then redis.call('HSET', key, 'connected', now) end
if was ~= 'live' then redis.call('HSET', key, 'changed', now) end
redis.call('HSET', key, 'app', app, 'state', 'live', 'token', token)
redis.call('HDEL', key, 'reason', 'previous', 'refusal', 'refresh', 'presented', 'check', 'revoked')
redis.call('HDEL', key, 'pending', 'pending_app', 'pending_at')
redis.call('HDEL', key, 'rejected_at', 'holds', 'held', 'late_events', 'late_first', 'late_last')
unrefuse(key)
return redis.call('HINCRBY', key, 'generation', 1)
