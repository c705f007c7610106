-- Moves cursors forward if nothing has rewound them since. KEYS: cursors, generation,
-- saved scans. ARGV: the generation the scan started from, the id of the saved scan or
-- '', then of each cursor its entity, where the scan found it ('' is nowhere), and where
-- it moves to. Returns the entities that were not refused.
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[1] then return {} end
if ARGV[2] ~= '' and redis.call('HEXISTS', KEYS[3], ARGV[2]) == 0 then return {} end
local moved = {}
for i = 3, #ARGV, 3 do
  local entity, from, to = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local now = redis.call('ZSCORE', KEYS[1], entity)
  if from == '' or now and tonumber(now) >= tonumber(from) then
    redis.call('ZADD', KEYS[1], 'GT', to, entity)
    moved[#moved + 1] = entity
  end
end
return moved
