-- Takes the next probe of the realm KEYS[1], if it is due; returns whether. ARGV: ms that
-- nobody else may probe, a test's clock.
local key, hold, now = KEYS[1], tonumber(ARGV[1]), clock(ARGV[2])
local due = redis.call('HGET', key, 'refused_next')
if not due or tonumber(due) > now then return 0 end
redis.call('HSET', key, 'refused_next', text(now + hold))
return 1
