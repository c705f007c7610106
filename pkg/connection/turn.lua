-- Reserves the turn KEYS[1] for ARGV[1] ms; returns 0, or until when it is somebody else's
-- in Unix ms. ARGV: how long, the longest a turn may be, a test's clock.
local now, hold, most = clock(ARGV[3]), tonumber(ARGV[1]), tonumber(ARGV[2])
local taken = tonumber(redis.call('GET', KEYS[1]) or '0') or 0
if taken > now and taken - now <= most then return taken end
redis.call('SET', KEYS[1], text(now + hold), 'PX', most)
return 0
