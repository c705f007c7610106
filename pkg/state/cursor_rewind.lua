-- Moves cursors back, never forward. KEYS: cursors, generation, saved scans, loads, pace.
-- ARGV: the new generation, the time or '' to forget the cursors, 'all' or 'some', then
-- the entities.
redis.call('SET', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5])
local entities = {}
if ARGV[3] == 'all' then
  entities = redis.call('ZRANGE', KEYS[1], 0, -1)
else
  for i = 4, #ARGV do entities[#entities + 1] = ARGV[i] end
end
for _, entity in ipairs(entities) do
  if ARGV[2] == '' then
    redis.call('ZREM', KEYS[1], entity)
  else
    redis.call('ZADD', KEYS[1], 'XX', 'LT', ARGV[2], entity)
  end
end
return redis.status_reply('OK')
