-- Grows marks. KEYS: the realm's dead letters, then a mark hash per entity.
-- ARGV: per item the index of its key, id, version, covered.
-- The numbers are compared as numbers, exact below 2^53, but stored as the text
-- they came in: Lua would print a large one with an exponent.
local function larger(a, b)
  if (tonumber(a) or 0) >= (tonumber(b) or 0) then return a end
  return b
end

-- The field of a dead letter is the end of the mark's key, and the id.
local dead = redis.call('EXISTS', KEYS[1]) == 1
local function overtake(key, id, version)
  local field = string.match(key, '}:(.*)$') .. ':' .. id
  local refused = string.match(redis.call('HGET', KEYS[1], field) or '', '^(%d+),')
  if refused and tonumber(refused) <= tonumber(version) then redis.call('HDEL', KEYS[1], field) end
end

for i = 1, #ARGV, 4 do
  local key, id, version, covered = KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local old = redis.call('HGET', key, id)
  local mark
  if old then
    local v, c = string.match(old, '^(%d+),(%d+)$')
    mark = larger(v or '0', version) .. ',' .. larger(c or '0', covered)
  else
    mark = version .. ',' .. covered
  end
  if mark ~= old then redis.call('HSET', key, id, mark) end
  if dead then overtake(key, id, version) end
end
return redis.status_reply('OK')
