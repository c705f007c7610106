-- Lowers marks that are still what they were when they were read. KEYS: a mark hash.
-- ARGV: per mark its id, what was read, and what takes its place ('' is nothing).
-- Returns how many.
local lowered = 0
for i = 1, #ARGV, 3 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    if ARGV[i + 2] == '' then
      redis.call('HDEL', KEYS[1], ARGV[i])
    else
      redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
    end
    lowered = lowered + 1
  end
end
return lowered
