-- Marks the access token of generation ARGV[1] of the realm KEYS[1] as refused.
if redis.call('HGET', KEYS[1], 'generation') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'rejected', ARGV[1])
end
return redis.status_reply('OK')
