-- Notes the webhooks of a realm. KEYS: latest times, counts of the week, gaps.
-- ARGV: how long the counts last in ms, how many kinds, each its field, latest time
-- and counts; then the events: record, Unix s, whether it is a deletion, the place of
-- its kind, whether it was the first to tell, when it was received in ms, and the
-- counts of its lag. Returns the gaps whose webhook came after all: the place of the
-- event and the gap's text.
local seen, counts, gaps = KEYS[1], KEYS[2], KEYS[3]
local kinds = {}
local at = 3
for k = 1, tonumber(ARGV[2]) do
  local field, ms, numbers = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  kinds[k] = field
  local old = tonumber(redis.call('HGET', seen, field)) or -1
  if tonumber(ms) > old then redis.call('HSET', seen, field, ms) end
  tally(counts, field, numbers)
  at = at + 3
end

local late = {}
local any = redis.call('EXISTS', gaps) == 1
for i = at, #ARGV, 7 do
  local second, deletion, first, received = tonumber(ARGV[i + 1]), ARGV[i + 2] == '1', ARGV[i + 4] == '1', ARGV[i + 5]
  local held = any and redis.call('HGET', gaps, ARGV[i])
  if held then
    local lines, hit = {}, false
    for line in string.gmatch(held, '[^\n]+') do
      local version, found, event, source, verdict, operation, came = string.match(line, '^(%d+) (%d+) (%d+) (%S+) (%S+) (%S+) (%d+)$')
      -- Both tell the second of the write. When a record went, a scan may know only roughly.
      if came == '0' and not hit and (math.abs(tonumber(event) - second) <= 2 or deletion and operation == 'delete') then
        hit = true
        line = table.concat({version, found, event, source, 'late', operation, received}, ' ')
        late[#late + 1] = (i - at) / 7
        late[#late + 1] = line
        -- It did not tell first, then; its lag counts all the same.
        if first then tally(counts, kinds[tonumber(ARGV[i + 3])], '-1') end
        tally(counts, string.match(ARGV[i], '^[^:]*:') .. operation, first and '0 0 1' or '0 0 1 0 ' .. ARGV[i + 6])
      end
      lines[#lines + 1] = line
    end
    if hit then redis.call('HSET', gaps, ARGV[i], table.concat(lines, '\n')) end
  end
end
redis.call('PEXPIRE', counts, ARGV[1])
return late
