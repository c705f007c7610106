-- Puts the live realm KEYS[1], of which probes were refused, into the state ARGV[1] with
-- the reason ARGV[2]; returns whether. ARGV[3] is a test's clock, ARGV[4] ms until the next
-- probe.
local key, to, reason, now, wait = KEYS[1], ARGV[1], ARGV[2], clock(ARGV[3]), tonumber(ARGV[4])
local since = redis.call('HGET', key, 'refused_since')
if redis.call('HGET', key, 'state') ~= 'live' or not since then return 0 end
redis.call('HSET', key, 'state', to, 'reason', reason, 'changed', text(now), 'lapsed', since, 'refused_next', text(now + wait))
return 1
