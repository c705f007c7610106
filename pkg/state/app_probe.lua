-- Takes the next probe of an app's problem KEYS[1], if there is one and it is due; returns
-- whether. ARGV: ms until the next one, a test's clock.
local key, wait, now = KEYS[1], tonumber(ARGV[1]), clock(ARGV[2])
if redis.call('HEXISTS', key, 'since') == 0 then return 0 end
local due = redis.call('HGET', key, 'next')
-- One that is further ahead than any is of a clock that was ahead.
if due and tonumber(due) > now and tonumber(due) <= now + wait then return 0 end
redis.call('HSET', key, 'next', text(now + wait))
return 1
