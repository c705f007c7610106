-- What outage_add.lua and outage_watch.lua begin with. KEYS: outages, watch.
-- Adds an outage, or widens one of its kind that it touches. With due, every realm
-- must be scanned after its end.
local function add(kind, from, to, detail, due, most)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], text(from), '+inf')) do
    local k, f, t, d = string.match(member, '^(%a+),(%d+),(%d+),(.*)$')
    if k == kind and tonumber(f) <= to then
      redis.call('ZREM', KEYS[1], member)
      from = math.min(from, tonumber(f))
      to = math.max(to, tonumber(t))
      if detail == '' then detail = d end
    end
  end
  redis.call('ZADD', KEYS[1], text(to), kind .. ',' .. text(from) .. ',' .. text(to) .. ',' .. detail)
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - most)
  if due then
    local since = tonumber(redis.call('HGET', KEYS[2], 'since')) or 0
    if to > since then redis.call('HSET', KEYS[2], 'since', text(to)) end
  end
end
