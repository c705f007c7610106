-- The states of a realm that Intuit refuses.
local function refused(state)
  return state == 'no_access' or state == 'subscription_ended' or state == 'wrong_environment'
end

-- Forgets what Intuit refused.
local function unrefuse(key)
  redis.call('HDEL', key, 'refused_since', 'refused_as', 'refused_message', 'refused_tid', 'refused_next', 'refused_probes')
end
