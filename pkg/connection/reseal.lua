-- Replaces the tokens of the realm KEYS[1] by the same ones under another key, if
-- nobody stored others meanwhile; returns whether. ARGV: generation, token as it
-- is, as it shall be, previous token as it is, as it shall be ('' is none), the same of the
-- token that waits for approval.
local key = KEYS[1]
if redis.call('HGET', key, 'generation') ~= ARGV[1] then return 0 end
if (redis.call('HGET', key, 'token') or '') ~= ARGV[2] then return 0 end
if (redis.call('HGET', key, 'previous') or '') ~= ARGV[4] then return 0 end
if (redis.call('HGET', key, 'pending') or '') ~= ARGV[6] then return 0 end
if ARGV[3] ~= '' then redis.call('HSET', key, 'token', ARGV[3]) end
if ARGV[5] ~= '' then redis.call('HSET', key, 'previous', ARGV[5]) end
if ARGV[7] ~= '' then redis.call('HSET', key, 'pending', ARGV[7]) end
return 1
