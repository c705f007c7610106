-- Puts the realm ARGV[1] where it belongs in the index. KEYS: one per state and
-- "none", then the two deadlines and the retry. ARGV: realm, the number of the key of its
-- state, those three in Unix s; 0 is none.
local realm, place, states = ARGV[1], tonumber(ARGV[2]), #KEYS - 3
for i = 1, states do
  if i == place then
    redis.call('ZADD', KEYS[i], 0, realm)
  else
    redis.call('ZREM', KEYS[i], realm)
  end
end
for i = 1, 3 do
  local key, at = KEYS[states + i], ARGV[2 + i]
  if at == '0' then
    redis.call('ZREM', key, realm)
  else
    redis.call('ZADD', key, at, realm)
  end
end
return redis.status_reply('OK')
