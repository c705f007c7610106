-- Makes the realm ARGV[1] due at ARGV[2], if that is earlier.
-- KEYS: due, claim, again.
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  redis.call('ZADD', KEYS[3], 'LT', ARGV[2], ARGV[1])
else
  redis.call('ZADD', KEYS[1], 'LT', ARGV[2], ARGV[1])
end
return redis.status_reply('OK')
