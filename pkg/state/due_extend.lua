-- Prolongs the claim of the realm ARGV[2] until ARGV[3] ms from now. KEYS: due, claim,
-- again. ARGV[1]: a test's clock.
if redis.call('ZSCORE', KEYS[2], ARGV[2]) then
  local till = text(clock(ARGV[1]) + tonumber(ARGV[3]))
  redis.call('ZADD', KEYS[1], 'GT', till, ARGV[2])
  redis.call('ZADD', KEYS[2], 'GT', till, ARGV[2])
end
return redis.status_reply('OK')
