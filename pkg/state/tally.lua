-- Adds two lists of numbers, the texts of both separated by spaces, place by
-- place; the longer one may go on alone. Lua prints large numbers with an exponent.
local function sum(a, b)
  local n, out = {}, {}
  for v in string.gmatch(a, '%-?%d+') do n[#n + 1] = tonumber(v) end
  local i = 0
  for v in string.gmatch(b, '%-?%d+') do
    i = i + 1
    n[i] = (n[i] or 0) + tonumber(v)
  end
  for k, v in ipairs(n) do out[k] = string.format('%.0f', v) end
  return table.concat(out, ' ')
end

local function tally(key, field, numbers)
  local old = redis.call('HGET', key, field)
  redis.call('HSET', key, field, old and sum(old, numbers) or numbers)
end
