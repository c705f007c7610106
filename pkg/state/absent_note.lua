-- Notes records that an answer did not return. KEYS: the realm's absent records.
-- ARGV: how many there may be, then per record: field, "version,first".
-- A record that is noted keeps its first, unless another version was delivered since.
local most, n = tonumber(ARGV[1]), redis.call('HLEN', KEYS[1])
local left = 0
for i = 2, #ARGV, 2 do
  local old = redis.call('HGET', KEYS[1], ARGV[i])
  if old then
    if string.match(old, '^%d+') ~= string.match(ARGV[i + 1], '^%d+') then
      redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    end
  elseif n < most then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    n = n + 1
  else
    left = left + 1
  end
end
return left
