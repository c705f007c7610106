-- Adds names to the set KEYS[1] and returns those that are new.
-- ARGV: 'keep' or 'drop' what is in the set besides, then the names.
local wanted, added = {}, {}
for i = 2, #ARGV do
  wanted[ARGV[i]] = true
  if redis.call('SADD', KEYS[1], ARGV[i]) == 1 then added[#added + 1] = ARGV[i] end
end
if ARGV[1] == 'drop' then
  for _, name in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    if not wanted[name] then redis.call('SREM', KEYS[1], name) end
  end
end
return added
