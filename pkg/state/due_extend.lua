-- Prolongs the claim of the realm ARGV[1] until ARGV[2]. KEYS: due, claim, again.
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[1])
  redis.call('ZADD', KEYS[2], 'GT', ARGV[2], ARGV[1])
end
return redis.status_reply('OK')
