-- Removes fields of the hash KEYS[1] that are still as they were read. ARGV: field, value, …
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
return redis.status_reply('OK')
