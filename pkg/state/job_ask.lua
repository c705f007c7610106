-- Keeps the job ARGV[1] in the state ARGV[2] for ARGV[3] ms, unless there is one that
-- is not over. KEYS: the realm's job.
local state = redis.call('HGET', KEYS[1], 'state')
if state == 'queued' or state == 'running' or state == 'verifying' then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'job', ARGV[1], 'state', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
