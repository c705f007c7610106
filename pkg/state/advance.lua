-- Grows marks. KEYS: the realm's dead letters, then a mark hash per entity.
-- ARGV: per item the index of its key, id, version, covered, hash, and 'restore' or ''.
-- The numbers are compared as numbers, exact below 2^53, but stored as the text
-- they came in: Lua would print a large one with an exponent.
local function larger(a, b)
  if (tonumber(a) or 0) >= (tonumber(b) or 0) then return a end
  return b
end

local tombstone = 999999

-- The field of a dead letter is the end of the mark's key, and the id.
local dead = redis.call('EXISTS', KEYS[1]) == 1
local function overtake(key, id, version)
  local field = string.match(key, '}:(.*)$') .. ':' .. id
  local refused = string.match(redis.call('HGET', KEYS[1], field) or '', '^(%d+),')
  if refused and tonumber(refused) <= tonumber(version) then redis.call('HDEL', KEYS[1], field) end
end

for i = 1, #ARGV, 6 do
  local key, id, version, covered, hash = KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local restore = ARGV[i + 5] == 'restore'
  local old = redis.call('HGET', key, id)
  if old then
    local v, c, h = string.match(old, '^(%d+),(%d+),?(.*)$')
    v, c, h = v or '0', c or '0', h or ''
    local have, want = tonumber(v), tonumber(version)
    restore = restore and have % 1000000 == tombstone
    if not restore then covered = larger(c, covered) end
    if have > want and not restore then
      version, hash = v, h
    elseif have == want and hash == '' then
      hash = h
    end
  end
  local mark = version .. ',' .. covered
  if hash ~= '' then mark = mark .. ',' .. hash end
  if mark ~= old then redis.call('HSET', key, id, mark) end
  if dead then overtake(key, id, version) end
end
return redis.status_reply('OK')
