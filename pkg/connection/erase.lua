-- Replaces the record of the realm KEYS[1] by the note that it was erased. ARGV: reason, a
-- test's clock. The generation goes on, so that a refresh under way brings no token back.
local key = KEYS[1]
local generation = tonumber(redis.call('HGET', key, 'generation') or '0') or 0
redis.call('DEL', key)
redis.call('HSET', key, 'state', 'erased', 'generation', text(generation + 1), 'changed', text(clock(ARGV[2])), 'reason', ARGV[1])
return 1
