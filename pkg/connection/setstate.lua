-- Puts the realm KEYS[1] into a state. ARGV: the generation it must have ('' is
-- any), state, reason, a test's clock. Returns 1, 0 for another generation, -1 if the
-- realm is unknown, -2 if it has no token to be live with.
local key, generation, to, reason, now = KEYS[1], ARGV[1], ARGV[2], ARGV[3], text(clock(ARGV[4]))
local was = redis.call('HGET', key, 'state')
if not was or was == 'erased' then return -1 end
if generation ~= '' and redis.call('HGET', key, 'generation') ~= generation then return 0 end
if to == 'live' and redis.call('HEXISTS', key, 'token') == 0 then return -2 end
if was ~= to then
  redis.call('HSET', key, 'state', to, 'changed', now)
  if was == 'live' then redis.call('HSET', key, 'lapsed', now) end
end
if not refused(to) then unrefuse(key) end
if reason == '' then
  redis.call('HDEL', key, 'reason')
else
  redis.call('HSET', key, 'reason', reason)
end
if to == 'disconnected' then
  redis.call('HDEL', key, 'pending', 'pending_app', 'pending_at')
  redis.call('HDEL', key, 'token', 'previous', 'refusal', 'refresh', 'presented', 'check', 'rejected_at', 'holds', 'held')
  -- A refresh under way must not bring a token back.
  redis.call('HINCRBY', key, 'generation', 1)
end
return 1
