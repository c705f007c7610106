-- Notes that Intuit refused a probe of the realm KEYS[1]. ARGV: the state that this speaks
-- for, Intuit's words, its id of the call, ms until the next probe, a test's clock. Returns
-- how many probes were refused and since when, or nothing for a realm that is neither live
-- nor refused.
local key, to, message, tid, wait, now = KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), clock(ARGV[5])
local was = redis.call('HGET', key, 'state')
if was ~= 'live' and not refused(was) then return nil end
redis.call('HSETNX', key, 'refused_since', text(now))
redis.call('HSET', key, 'refused_as', to, 'refused_message', message, 'refused_tid', tid, 'refused_next', text(now + wait))
local probes = redis.call('HINCRBY', key, 'refused_probes', 1)
return {probes, tonumber(redis.call('HGET', key, 'refused_since'))}
