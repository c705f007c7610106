-- Notes records to look at. KEYS: the realm's follow-ups.
-- ARGV: record, "kind,since,first,tries" …
for i = 1, #ARGV, 2 do
  local kind, since, first, tries = string.match(ARGV[i + 1], '^(%a+),(%d+),(%d+),(%d+)$')
  local old = redis.call('HGET', KEYS[1], ARGV[i])
  if old then
    local _, s, f, t = string.match(old, '^(%a+),(%d+),(%d+),(%d+)$')
    if s and tonumber(s) > tonumber(since) then since = s end
    if f then first, tries = f, t end
  end
  redis.call('HSET', KEYS[1], ARGV[i], kind .. ',' .. since .. ',' .. first .. ',' .. tries)
end
return redis.status_reply('OK')
