package state

// ACLRule is what the Redis user of the services needs and no more, as ACL SETUSER takes
// it behind the password. INFO and CONFIG GET tell how Redis keeps its data; without them
// services start and say once that they cannot tell.
const ACLRule = "resetkeys ~lf:* resetchannels -@all +@read +@write +@connection +@scripting +@transaction -@dangerous -script|kill +time +info +config|get +cluster|slots +cluster|shards +cluster|nodes"
