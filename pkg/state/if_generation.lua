-- Runs a command on KEYS[2] if the generation KEYS[1] is ARGV[1]. ARGV: generation,
-- command, its arguments after the key. Returns whether.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call(ARGV[2], KEYS[2], unpack(ARGV, 3))
return 1
