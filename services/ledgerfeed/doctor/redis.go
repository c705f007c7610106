package doctor

import (
	"context"
	"errors"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

const (
	checkRedis     = "redis"
	checkRedisDisk = "redis-disk"
	checkRedisFull = "redis-memory"
)

// nearlyFull is when a store that is bounded is reported.
const nearlyFull = 0.8

// redis opens the store, asks how it keeps its data and what it does when full.
func (x *exam) redis(ctx context.Context) {
	var err error
	x.store, err = state.Open(ctx, state.Options{Config: x.Config.Redis, Logger: x.Logger.Named("redis")})
	if err != nil {
		do := "mend redis.url"
		if errors.Is(err, state.ErrUnreachable) {
			do = "start Redis, or mend redis.url; until then events wait on the stream"
		}
		x.fail(checkRedis, do, "%v", err)
		return
	}
	s, err := x.store.Server(ctx)
	if err != nil {
		x.fail(checkRedis, "see the log of Redis", "%v", err)
		return
	}
	x.ok(checkRedis, "Redis %s at %s", s.Version, x.store.Address())
	x.kept(s)
	x.memory(s)
}

func (x *exam) kept(s state.Server) {
	switch {
	case s.AppendOnly == "" && x.Config.NATS.Profile == stream.Dev:
		x.skip(checkRedisDisk, "nothing: the embedded Redis of ledgerfeed dev has a synced journal of its own", "Redis does not say how it keeps its data")
	case s.AppendOnly == "":
		x.warn(checkRedisDisk, "see in the provider's console that the append-only file is on", "Redis does not say whether it writes to disk")
	case s.AppendOnly == "no":
		x.fail(checkRedisDisk, "set appendonly yes and appendfsync everysec or always",
			"appendonly is no: a restart of Redis loses cursors, marks and the newest refresh tokens, and companies must be connected anew")
	case s.AppendFailed:
		x.fail(checkRedisDisk, "see the log and the disk of Redis", "the last write of the append-only file failed")
	case s.Fsync == "no":
		x.fail(checkRedisDisk, "set appendfsync everysec or always", "appendfsync is no: a power cut loses what the kernel has not written, refresh tokens among it")
	default:
		x.ok(checkRedisDisk, "appendonly yes, appendfsync %s", orUnknown(s.Fsync))
	}
}

func (x *exam) memory(s state.Server) {
	switch {
	case s.Policy == "":
		if x.Config.NATS.Profile != stream.Dev {
			x.warn(checkRedisFull, "see in the provider's console that maxmemory-policy is noeviction", "Redis does not say what it does when it is full")
		}
	case s.Policy != "noeviction":
		x.fail(checkRedisFull, "set maxmemory-policy noeviction, and alert on memory instead",
			"maxmemory-policy is %s: when its memory is full, Redis throws away cursors and tokens", s.Policy)
	case s.MaxBytes > 0 && float64(s.UsedBytes) > nearlyFull*float64(s.MaxBytes):
		x.warn(checkRedisFull, "raise maxmemory: when it is full, every write is refused", "%d of %d MiB used", s.UsedBytes>>20, s.MaxBytes>>20)
	case s.MaxBytes > 0:
		x.ok(checkRedisFull, "noeviction, %d of %d MiB used", s.UsedBytes>>20, s.MaxBytes>>20)
	default:
		x.ok(checkRedisFull, "noeviction, %d MiB used", s.UsedBytes>>20)
	}
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
