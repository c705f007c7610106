-- Removes or replaces follow-ups that are still what the caller read.
-- KEYS: the realm's follow-ups. ARGV: record, value read, new value or '' …
for i = 1, #ARGV, 3 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    if ARGV[i + 2] == '' then
      redis.call('HDEL', KEYS[1], ARGV[i])
    else
      redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
    end
  end
end
return redis.status_reply('OK')
