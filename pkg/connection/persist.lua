-- Stores a refreshed token of the realm KEYS[1] if its generation is still
-- ARGV[1]; returns whether. ARGV: generation, sealed token, sealed token that it
-- was got with, a test's clock.
local key, generation, token, previous, now = KEYS[1], ARGV[1], ARGV[2], ARGV[3], text(clock(ARGV[4]))
if redis.call('HGET', key, 'generation') ~= generation then return 0 end
redis.call('HSET', key, 'token', token, 'previous', previous)
redis.call('HDEL', key, 'refusal', 'refresh', 'presented', 'check', 'revoked')
redis.call('HINCRBY', key, 'generation', 1)
if redis.call('HGET', key, 'state') == 'reauth_required' then
  -- Intuit takes the token again, or another replica gave up while this one was on its way.
  redis.call('HSET', key, 'state', 'live', 'changed', now)
  redis.call('HDEL', key, 'reason')
end
return 1
