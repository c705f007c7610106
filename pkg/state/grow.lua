-- Raises fields of the hash KEYS[1]. ARGV: field, number, field, number …
for i = 1, #ARGV, 2 do
  local old = tonumber(redis.call('HGET', KEYS[1], ARGV[i])) or -1
  if tonumber(ARGV[i + 1]) > old then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
return redis.status_reply('OK')
