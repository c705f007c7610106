-- Notes that Intuit refused the realm ARGV[1] of an app. KEYS: the refused realms, the
-- app's problem. ARGV: realm, window in ms, realms that make a problem, message, tid, a
-- test's clock, how long it is kept in ms.
local refused, problem = KEYS[1], KEYS[2]
local realm, window, enough, message, tid, now, keep = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5], clock(ARGV[6]), ARGV[7]
redis.call('ZREMRANGEBYSCORE', refused, '-inf', text(now - window))
redis.call('ZADD', refused, text(now), realm)
redis.call('ZREMRANGEBYRANK', refused, 0, -1001)
redis.call('PEXPIRE', refused, keep)
if redis.call('ZCARD', refused) >= enough then redis.call('HSETNX', problem, 'since', text(now)) end
if redis.call('HEXISTS', problem, 'since') == 1 then
  redis.call('HSET', problem, 'message', message, 'tid', tid, 'last', text(now))
  redis.call('PEXPIRE', problem, keep)
  return 1
end
return 0
