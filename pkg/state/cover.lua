-- Counts over all realms. KEYS: a day's counts, when each kind of webhook was last
-- heard, when each realm was last told by a webhook, when a scan last found a gap in
-- each. ARGV: how long the counts last in ms, how many counts, each a field and its
-- numbers; how many kinds heard, each a field and ms; how many realms told, each a
-- realm and ms; how many realms with gaps, likewise.
local at = 1
local function take()
  at = at + 1
  return ARGV[at - 1]
end

local life = take()
for _ = 1, tonumber(take()) do
  local field = take()
  tally(KEYS[1], field, take())
end
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('PEXPIRE', KEYS[1], life) end
for _ = 1, tonumber(take()) do
  local field, ms = take(), take()
  local old = tonumber(redis.call('HGET', KEYS[2], field)) or -1
  if tonumber(ms) > old then redis.call('HSET', KEYS[2], field, ms) end
end
for _, key in ipairs({KEYS[3], KEYS[4]}) do
  for _ = 1, tonumber(take()) do
    local realm, ms = take(), take()
    redis.call('ZADD', key, 'GT', ms, realm)
  end
end
return redis.status_reply('OK')
