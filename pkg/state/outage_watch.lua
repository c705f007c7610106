-- Somebody listens for beats at ARGV[1], and has heard one since he last said so if
-- ARGV[2] is '1'. A silence longer than ARGV[3] was an outage: of the ingress where
-- somebody listened, and of nobody knows what where nobody did. ARGV[4]: how many
-- outages are kept.
local now, gap, most = tonumber(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[4])
local beat = tonumber(redis.call('HGET', KEYS[2], 'beat'))
local watched = tonumber(redis.call('HGET', KEYS[2], 'watched'))

-- Clocks of replicas differ: the one that is ahead counts.
if watched and watched > now then now = watched end

if watched and now - watched > gap then
  if beat and watched - beat > gap then add('ingress', beat, watched, '', true, most) end
  add('unwatched', watched, now, '', true, most)
  if beat then
    beat = now
    redis.call('HSET', KEYS[2], 'beat', text(now))
  end
end
if ARGV[2] == '1' then
  if beat and now - beat > gap then add('ingress', beat, now, '', true, most) end
  redis.call('HSET', KEYS[2], 'beat', text(now))
end
redis.call('HSET', KEYS[2], 'watched', text(now), 'gap', text(gap))
return redis.call('HMGET', KEYS[2], 'beat', 'watched', 'gap', 'since', 'settled')
