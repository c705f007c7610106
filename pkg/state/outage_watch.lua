-- Somebody listens for heartbeats, and has heard one since he last said so if ARGV[2]
-- is '1'. A silence longer than ARGV[3] was an outage: of the ingress where somebody
-- listened, and of nobody knows what where nobody did. ARGV[4]: how many outages are
-- kept. ARGV[5]: up to which time without a listener there is no outage. ARGV[6]: how long
-- ago the last heartbeat was, by the broker's record of the time in which nobody listened;
-- '' if there is no such record. ARGV[1]: a test's clock.
local now, gap, most = clock(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[4])
local bound, recorded = tonumber(ARGV[5]), tonumber(ARGV[6])

-- A time that is far ahead was noted by a clock that was wrong: an older version used its
-- own, and Redis's may have been set back. Left there it would blind the watch, or keep
-- every scan at its most expensive, until then. Of those that are ahead by less, while
-- an older version runs beside this one, the one that is ahead counts.
local ahead = 600000
local function past(field)
  local at = tonumber(redis.call('HGET', KEYS[2], field))
  if at and at > now + ahead then
    at = now
    redis.call('HSET', KEYS[2], field, text(now))
  end
  return at
end
local beat, watched = past('beat'), past('watched')
past('since')
past('settled')
if watched and watched > now then now = watched end
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. text(now + ahead), '+inf')) do
  local kind, from, _, detail = string.match(member, '^(%a+),(%d+),(%d+),(.*)$')
  redis.call('ZREM', KEYS[1], member)
  add(kind, math.min(tonumber(from), now), now, detail, false, most)
end

if watched and now - watched > gap then
  if beat and watched - beat > gap then add('ingress', beat, watched, '', true, most) end
  if not recorded and now - watched > bound then add('unwatched', watched, now, '', true, most) end
  if recorded or beat then
    beat = now - (recorded or 0)
    redis.call('HSET', KEYS[2], 'beat', text(beat))
  end
end
if ARGV[2] == '1' then
  if beat and now - beat > gap then add('ingress', beat, now, '', true, most) end
  redis.call('HSET', KEYS[2], 'beat', text(now))
end
redis.call('HSET', KEYS[2], 'watched', text(now), 'gap', text(gap))
return redis.call('HMGET', KEYS[2], 'beat', 'watched', 'gap', 'since', 'settled')
