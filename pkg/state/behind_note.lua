-- Notes in the hash KEYS[1] what a sink did not get. ARGV: now in ms, then "realm:entity", time in ms, …
-- A value is "oldest,notes,since": the oldest time, how many notes, when the first was made.
for i = 2, #ARGV, 2 do
  local old = redis.call('HGET', KEYS[1], ARGV[i])
  local oldest, notes, since = string.match(old or '', '^(%d+),(%d+),(%d+)$')
  if not oldest then
    oldest, notes, since = ARGV[i + 1], '0', ARGV[1]
  elseif tonumber(ARGV[i + 1]) < tonumber(oldest) then
    oldest = ARGV[i + 1]
  end
  redis.call('HSET', KEYS[1], ARGV[i], oldest .. ',' .. string.format('%d', tonumber(notes) + 1) .. ',' .. since)
end
return redis.status_reply('OK')
