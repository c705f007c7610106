-- Makes the lease KEYS[1] last ARGV[2] ms from now, 0 ends it, if ARGV[1] owns it.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
