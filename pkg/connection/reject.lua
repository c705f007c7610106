-- Notes that the API refused the access token of generation ARGV[1] of the realm KEYS[1].
-- A token may be replaced for that reason once a window. Within it a new token does not
-- help, so that the realm is held instead, longer each time. ARGV: generation, window,
-- first and longest hold in ms, a test's clock.
local key, generation, now = KEYS[1], ARGV[1], clock(ARGV[5])
local window, first, most = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if redis.call('HGET', key, 'generation') ~= generation then return 0 end
if redis.call('HGET', key, 'rejected') == generation then return 0 end
local function number(field) return tonumber(redis.call('HGET', key, field) or '0') or 0 end
local at, held = number('rejected_at'), number('held')
if at == 0 or now - at >= window or at - now >= window then
  if now - held > most then redis.call('HDEL', key, 'holds', 'held') end
  redis.call('HSET', key, 'rejected', generation, 'rejected_at', text(now))
  return 1
end
if held > now and held - now <= most then return 0 end -- somebody has noted it already
local n = redis.call('HINCRBY', key, 'holds', 1)
redis.call('HSET', key, 'held', text(now + math.min(first * 2 ^ (n - 1), most)))
return 0
