-- Somebody listens for beats at ARGV[1], and has heard one since he last said so if
-- ARGV[2] is '1'. A silence longer than ARGV[3] was an outage: of the ingress where
-- somebody listened, and of nobody knows what where nobody did. ARGV[4]: how many
-- outages are kept. ARGV[5]: up to which time without a listener there is no outage.
-- ARGV[6]: how long ago the ingress last beat, by the broker's record of the time in which
-- nobody listened; '' if there is no such record.
local now, gap, most = tonumber(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[4])
local bound, recorded = tonumber(ARGV[5]), tonumber(ARGV[6])
local beat = tonumber(redis.call('HGET', KEYS[2], 'beat'))
local watched = tonumber(redis.call('HGET', KEYS[2], 'watched'))

-- Clocks of replicas differ: the one that is ahead counts.
if watched and watched > now then now = watched end

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
