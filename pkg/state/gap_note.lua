-- Notes gaps of a realm. KEYS: gaps, counts of the week. ARGV: how long the counts and
-- the gaps last in ms, how many records are kept; then the gaps: record, the field
-- it is counted in, if any, text. Returns the places of those that were not noted before.
local gaps, counts = KEYS[1], KEYS[2]
local fresh = {}
for i = 4, #ARGV, 3 do
  local record, text = ARGV[i], ARGV[i + 2]
  local held = redis.call('HGET', gaps, record)
  local version = string.match(text, '^%d+ ')
  if not held or string.find('\n' .. held, '\n' .. version, 1, true) == nil then
    fresh[#fresh + 1] = (i - 4) / 3
    if ARGV[i + 1] ~= '' then tally(counts, ARGV[i + 1], '0 1') end
    if held then
      local n = 1
      for line in string.gmatch(held, '[^\n]+') do
        if n < 8 then text = text .. '\n' .. line end
        n = n + 1
      end
    end
    redis.call('HSET', gaps, record, text)
  end
end
if #fresh > 0 then
  redis.call('PEXPIRE', counts, ARGV[1])
  redis.call('PEXPIRE', gaps, ARGV[2])
end

local over = redis.call('HLEN', gaps) - tonumber(ARGV[3])
if over > 0 then
  local all, held = {}, redis.call('HGETALL', gaps)
  for i = 1, #held, 2 do
    all[#all + 1] = {held[i], tonumber(string.match(held[i + 1], '^%d+ (%d+) '))}
  end
  table.sort(all, function(a, b) return a[2] < b[2] or a[2] == b[2] and a[1] < b[1] end)
  for i = 1, over do redis.call('HDEL', gaps, all[i][1]) end
end
return fresh
