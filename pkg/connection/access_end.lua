-- Intuit answers the realm KEYS[1]. Returns the state that it is live again from, '' if it
-- was only suspected, nothing if neither. ARGV[1] is a test's clock.
local key, now = KEYS[1], text(clock(ARGV[1]))
local was = redis.call('HGET', key, 'state')
local suspected = redis.call('HEXISTS', key, 'refused_since') == 1
unrefuse(key)
if was and refused(was) then
  redis.call('HSET', key, 'state', 'live', 'changed', now)
  redis.call('HDEL', key, 'reason')
  return was
end
if suspected then return '' end
return nil
