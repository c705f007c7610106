package devserver

import "strings"

// Ephemeral keys, leases and limits, are not journaled: they would be most of
// the writes, and their holders are gone after a crash.
const ephemeralPrefix = "lf:tmp:"

type kind int

const (
	refused kind = iota
	read         // changes no data, though perhaps the connection
	write
)

// kindOf sorts the commands. The list of writes is closed on purpose: each must
// do the same when it is replayed and leave only types that a snapshot knows.
func kindOf(name string, args []string) kind {
	switch name {
	case "SELECT":
		if len(args) == 1 && args[0] != "0" {
			return refused
		}
		return read
	case "COPY", "RENAME", "RENAMENX", "LMOVE", "RPOPLPUSH", "SMOVE", "MSETNX":
		// COPY can name another database.
		if mixed(name, args) || name == "COPY" && len(args) > 2 && !strings.EqualFold(args[2], "replace") {
			return refused
		}
		return write
	case "APPEND", "DECR", "DECRBY", "GETDEL", "GETEX", "GETSET", "INCR", "INCRBY", "INCRBYFLOAT", "MSET",
		"PSETEX", "SET", "SETBIT", "SETEX", "SETNX", "SETRANGE",
		"DEL", "UNLINK", "EXPIRE", "EXPIREAT", "PEXPIRE", "PEXPIREAT", "PERSIST", "FLUSHALL", "FLUSHDB",
		"HDEL", "HINCRBY", "HINCRBYFLOAT", "HMSET", "HSET", "HSETNX",
		"LINSERT", "LPOP", "LPUSH", "LPUSHX", "LREM", "LSET", "LTRIM", "RPOP", "RPUSH", "RPUSHX",
		"SADD", "SREM",
		"ZADD", "ZINCRBY", "ZPOPMAX", "ZPOPMIN", "ZREM", "ZREMRANGEBYLEX", "ZREMRANGEBYRANK", "ZREMRANGEBYSCORE":
		return write
	case "BLPOP", "BRPOP", "BRPOPLPUSH", "BLMOVE", "BZMPOP", "BZPOPMAX", "BZPOPMIN", "WAIT",
		"SUBSCRIBE", "UNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE", "PUBLISH", "PUBSUB",
		"XADD", "XREAD", "XGROUP", "XINFO", "XREADGROUP", "XACK", "XDEL", "XTRIM", "XAUTOCLAIM", "XCLAIM",
		"PFADD", "PFMERGE", "SPOP", "HEXPIRE", "HPERSIST", "HSETEX", "DELEX", "LMPOP", "ZMPOP",
		"GEOADD", "GEORADIUS", "GEORADIUSBYMEMBER", "BITOP", "MOVE", "RESTORE", "SWAPDB",
		"SDIFFSTORE", "SINTERSTORE", "SUNIONSTORE", "ZINTERSTORE", "ZUNIONSTORE":
		return refused
	}
	// What is left reads, concerns the connection, or is unknown to miniredis,
	// which says so.
	return read
}

func refusal(name string, args []string) string {
	switch {
	case name == "SELECT":
		return "ERR the embedded Redis has one database, 0"
	case mixed(name, args):
		return "ERR '" + strings.ToLower(name) + "' must not mix keys below " + ephemeralPrefix + " with others: those are not journaled"
	}
	return "ERR '" + strings.ToLower(name) + "' is not supported by the embedded Redis"
}

// ephemeral reports whether a write concerns ephemeral keys only.
func ephemeral(name string, args []string) bool {
	keys, n := count(name, args)
	return keys > 0 && n == keys
}

// mixed reports whether it concerns both: what it does to the one kind then
// depends on the other, which is not there when it is replayed.
func mixed(name string, args []string) bool {
	keys, n := count(name, args)
	return n > 0 && n < keys
}

func count(name string, args []string) (keys, ephemeral int) {
	all := keysOf(name, args)
	for _, k := range all {
		if strings.HasPrefix(k, ephemeralPrefix) {
			ephemeral++
		}
	}
	return len(all), ephemeral
}

func keysOf(name string, args []string) []string {
	switch name {
	case "FLUSHALL", "FLUSHDB":
		return nil
	case "DEL", "UNLINK":
		return args
	case "MSET", "MSETNX":
		var keys []string
		for i := 0; i < len(args); i += 2 {
			keys = append(keys, args[i])
		}
		return keys
	case "COPY", "RENAME", "RENAMENX", "LMOVE", "RPOPLPUSH", "SMOVE":
		return args[:min(2, len(args))]
	}
	return args[:min(1, len(args))]
}
