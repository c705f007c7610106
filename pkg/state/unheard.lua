-- Notes in which ten minutes webhooks came, and changes of which none told.
-- KEYS: the ten minutes; when each kind of webhook was last heard; then for each change
-- the realms of its kind.
-- ARGV: the oldest ten minutes to keep, how long in ms, how many realms of a kind, how
-- many changes of a realm; how many ten minutes, each its number; then of each change its
-- kind, the kind that counts for it too, its realm and its ten minutes.
local at = 1
local function take()
  at = at + 1
  return ARGV[at - 1]
end

local oldest, life, realms, most = take(), take(), tonumber(take()), tonumber(take())
for _ = 1, tonumber(take()) do
  local span = take()
  if tonumber(span) >= tonumber(oldest) then redis.call('ZADD', KEYS[1], span, span) end
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. oldest)
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('PEXPIRE', KEYS[1], life) end

local function spans(text)
  local all = {}
  for n in string.gmatch(text or '', '%d+') do all[#all + 1] = tonumber(n) end
  return all
end

-- The realm that gives way to another one when there are too many: one without a change
-- since the last webhook, or of a sample that is the same whatever the order. Without
-- that, realms in turn would put each other out, each with one change.
local function spare(key, realm, heard)
  local fields = redis.call('HGETALL', key)
  local out, most = realm, redis.sha1hex(realm)
  for f = 1, #fields, 2 do
    local last = 0
    for _, n in ipairs(spans(fields[f + 1])) do last = math.max(last, n) end
    if last <= heard then return fields[f] end
    local hash = redis.sha1hex(fields[f])
    if hash > most then out, most = fields[f], hash end
  end
  return out
end

local function heardSpan(field, also)
  local ms = math.max(tonumber(redis.call('HGET', KEYS[2], field)) or 0, tonumber(redis.call('HGET', KEYS[2], also)) or 0)
  return math.floor(ms / 600000)
end

for i = 3, #KEYS do
  local key, field, also, realm, span = KEYS[i], take(), take(), take(), tonumber(take())
  local held = redis.call('HGET', key, realm)
  local all, wanted = spans(held), true
  for _, n in ipairs(all) do
    if n == span then wanted = false end
  end
  if wanted and not held and redis.call('HLEN', key) >= realms then
    local out = spare(key, realm, heardSpan(field, also))
    wanted = out ~= realm
    if wanted then redis.call('HDEL', key, out) end
  end
  if wanted then
    all[#all + 1] = span
    table.sort(all)
    while #all > most do table.remove(all, 1) end
    for n, v in ipairs(all) do all[n] = string.format('%.0f', v) end
    redis.call('HSET', key, realm, table.concat(all, ','))
    redis.call('PEXPIRE', key, life)
  end
end
return redis.status_reply('OK')
