-- Notes that Intuit refused the refresh token of generation ARGV[1] of the realm KEYS[1];
-- returns whether it still has that one. ARGV: generation, the refusal as JSON, what to do
-- with the state (keep; park a live realm; free a parked one), reason, a test's clock.
local key, what, reason, now = KEYS[1], ARGV[3], ARGV[4], text(clock(ARGV[5]))
if redis.call('HGET', key, 'generation') ~= ARGV[1] then return 0 end
redis.call('HSET', key, 'refusal', ARGV[2])
local was = redis.call('HGET', key, 'state')
if what == 'park' and was == 'live' then
  redis.call('HSET', key, 'state', 'reauth_required', 'changed', now, 'lapsed', now)
end
if what == 'park' and was ~= 'parked' then
  redis.call('HSET', key, 'reason', reason)
end
if what == 'free' and was == 'reauth_required' then
  redis.call('HSET', key, 'state', 'live', 'changed', now)
  redis.call('HDEL', key, 'reason')
end
return 1
