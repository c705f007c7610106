-- Records dead letters in the hash KEYS[1]. ARGV: field, version, end in ms, letter, …
-- A record of a higher version stays. The numbers are stored as the text they came in:
-- Lua would print a large one with an exponent.
for i = 1, #ARGV, 4 do
  local field, version = ARGV[i], ARGV[i + 1]
  local old = string.match(redis.call('HGET', KEYS[1], field) or '', '^(%d+),')
  if not old or tonumber(version) >= tonumber(old) then
    redis.call('HSET', KEYS[1], field, version .. ',' .. ARGV[i + 2] .. ',' .. ARGV[i + 3])
  end
end
return redis.status_reply('OK')
