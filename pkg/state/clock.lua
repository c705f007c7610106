-- The clock of the schedule, of claims and of the watch: Redis's, in ms, so that the
-- clock of no replica counts. given is '' but in tests, which set one.
local function clock(given)
  if given ~= '' then return tonumber(given) end
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- Lua would print a large number with an exponent.
local function text(n) return string.format('%.0f', n) end
