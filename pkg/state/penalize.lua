-- Puts a realm into the penalty box for ARGV[1] µs from now. KEYS[1]: limit hash.
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
local till = now + tonumber(ARGV[1])
local box = tonumber(redis.call('HGET', KEYS[1], 'box')) or 0
if box < till then
  redis.call('HSET', KEYS[1], 'box', string.format('%.0f', till))
else
  till = box
end
local tat = tonumber(redis.call('HGET', KEYS[1], 'tat')) or 0
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', (math.max(tat, till) - now) / 1000 + 1000))
return redis.status_reply('OK')
