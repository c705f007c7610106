package state

// ACLRule is what the Redis user of the services needs and no more, as ACL SETUSER takes
// it behind the password. INFO and CONFIG GET tell how Redis keeps its data; without them
// services start and say once that they cannot tell.
const ACLRule = "resetkeys ~lf:* resetchannels -@all +@read +@write +@connection +@scripting +@transaction -@dangerous -script|kill +time +info +config|get +cluster|slots +cluster|shards +cluster|nodes"

// ServiceACLRule is ACLRule for a Redis that the deployment brings itself: no CONFIG, which
// shows passwords, and of scripts no more than running them. What INFO does not say, such as
// appendfsync, the deployment's own redis.conf does.
const ServiceACLRule = "resetkeys ~lf:1:* ~lf:tmp:1:* resetchannels -@all +@read +@write +@connection +@transaction -@dangerous -function -fcall -fcall_ro +eval +evalsha +script|load +script|exists +time +info"

// SimulatorACLRule is what the simulated QuickBooks of a demo needs: it connects its
// companies, and sees nothing else.
const SimulatorACLRule = "resetkeys ~lf:1:conn:* ~lf:1:realms ~lf:1:index:* ~lf:1:lost ~lf:tmp:1:* resetchannels -@all +@read +@write +@connection +@transaction -@dangerous -function -fcall -fcall_ro +eval +evalsha +script|load +script|exists +time +info"
