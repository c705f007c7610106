-- ARGV: kind, from, to, detail, 'due' or '', how many outages are kept.
add(ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5] == 'due', tonumber(ARGV[6]))
return redis.status_reply('OK')
