-- Counts events of an app that is not the realm's in the hash KEYS[1]. ARGV: field, events,
-- the realm's app, day, most fields, life in s, a test's clock. A value is
-- "events,first,last,day,app", times in Unix ms. Returns 1 if it is the first time that day.
local events, day, now = tonumber(ARGV[2]), ARGV[4], text(clock(ARGV[7]))
local old = redis.call('HGET', KEYS[1], ARGV[1])
if not old and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then return 0 end
local before, first, _, last = string.match(old or '', '^(%d+),(%d+),(%d+),([%d-]+),')
local value = string.format('%d', (tonumber(before) or 0) + events) .. ',' .. (first or now) .. ',' .. now .. ',' .. day .. ',' .. ARGV[3]
redis.call('HSET', KEYS[1], ARGV[1], value)
redis.call('EXPIRE', KEYS[1], ARGV[6])
if last == day then return 0 end
return 1
