-- One call about a realm asks to start. Returns 0: go, or the µs to wait before
-- asking again. All times are µs by Redis's clock.
-- KEYS: limit hash, slots, waiting live calls, latest grants.
local limit, slots, waiting, recent = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, live = ARGV[1], ARGV[2] == 'live'
local interval, burst, per_second = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local concurrency, hold = tonumber(ARGV[6]), tonumber(ARGV[7])
local max_nap, max_penalty = tonumber(ARGV[8]), tonumber(ARGV[9])
local second = 1000000

-- Lua prints large numbers with an exponent.
local function text(n) return string.format('%.0f', n) end

local t = redis.call('TIME')
local now = tonumber(t[1]) * second + tonumber(t[2])
redis.call('ZREMRANGEBYSCORE', slots, '-inf', text(now))
redis.call('ZREMRANGEBYSCORE', waiting, '-inf', text(now))

-- The answer to an earlier try was lost on the way: it was a yes.
if redis.call('ZSCORE', slots, id) then return 0 end

-- Who goes first: the live calls that were told an earlier time.
local ahead
if live then
  ahead = redis.call('ZRANK', waiting, id) or redis.call('ZCARD', waiting)
else
  ahead = redis.call('ZCARD', waiting)
end

local wait = 0
local function until_at_least(time) if time - now > wait then wait = time - now end end

-- The penalty box. Further away than any penalty means that the clock went back.
local box = tonumber(redis.call('HGET', limit, 'box')) or 0
if box - now <= max_penalty then until_at_least(box) else box = 0 end

-- The rate (GCRA): tat is when the calls made so far would be through if they had
-- kept their distance. A backfill leaves half the burst to live calls.
local most = now + burst * interval
local tat = tonumber(redis.call('HGET', limit, 'tat')) or now
if tat < now then tat = now end
if tat > most then tat = most end
local spare = burst - 1
if not live then spare = math.floor(spare / 2) end
until_at_least(tat + (ahead - spare) * interval)

-- Any one second: the oldest of the latest grants must be a second ago. A
-- backfill leaves one to live calls.
local n = per_second
if not live and n > 1 then n = n - 1 end
if n > 0 then
  local newest = tonumber(redis.call('LINDEX', recent, 0))
  if newest and newest > now then
    redis.call('DEL', recent) -- the clock went back
  else
    local index = n - 1 - ahead
    if index < 0 then index = 0 end
    local oldest = tonumber(redis.call('LINDEX', recent, index))
    if oldest then until_at_least(oldest + second) end
  end
end

-- The slots. A backfill needs two: one stays free. When one will be free nobody
-- knows, so ask again soon.
local free = concurrency - redis.call('ZCARD', slots) - ahead
if free < 1 or (not live and free < 2 and concurrency > 1) then
  until_at_least(now + 50000 * math.min(ahead + 1, 10))
end
if not live and ahead > 0 then until_at_least(now + 50000) end

if wait > 0 then
  if wait > max_nap then wait = max_nap end
  if live then
    redis.call('ZADD', waiting, text(now + wait + second), id)
    redis.call('PEXPIRE', waiting, text((max_nap + 2 * second) / 1000))
  end
  return math.ceil(wait)
end

tat = tat + interval
redis.call('HSET', limit, 'tat', text(tat))
redis.call('PEXPIRE', limit, text((math.max(tat, box) - now) / 1000 + 1000))
redis.call('ZADD', slots, text(now + hold), id)
redis.call('PEXPIRE', slots, text(hold / 1000 + 1000))
redis.call('ZREM', waiting, id)
if per_second > 0 then
  redis.call('LPUSH', recent, text(now))
  redis.call('LTRIM', recent, 0, per_second - 1)
  redis.call('PEXPIRE', recent, 2000)
end
return 0
