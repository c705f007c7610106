package doctor

import (
	"context"
	"errors"
	"fmt"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

const (
	checkRedis     = "redis"
	checkRedisDisk = "redis-disk"
	checkRedisFull = "redis-memory"
)

// redis opens the store, asks how it keeps its data and what it does when full.
func (x *exam) redis(ctx context.Context) {
	var err error
	x.store, err = state.Open(ctx, state.Options{Config: x.Config.Redis, Logger: x.Logger.Named("redis")})
	if err != nil {
		do := "correct redis.url"
		if errors.Is(err, state.ErrUnreachable) {
			do = "start Redis, or correct redis.url; until then events wait on the stream"
		}
		x.fail(checkRedis, do, "%v", err)
		return
	}
	s, err := x.store.Server(ctx)
	if err != nil {
		x.fail(checkRedis, "see the log of Redis", "%v", err)
		return
	}
	x.ok(checkRedis, "%s %s at %s", s.Product, orUnknown(s.Version), x.store.Address())
	x.redisProblems(s)
}

// redisProblems reports how Redis keeps its data. The embedded one of ledgerfeed dev says
// nothing, and has a synced journal of its own.
func (x *exam) redisProblems(s state.Server) {
	found := map[string]bool{}
	for _, p := range s.Problems() {
		name := map[string]string{state.CheckDisk: checkRedisDisk, state.CheckVersion: checkRedis}[p.Check]
		if name == "" {
			name = checkRedisFull
		}
		found[name] = true
		switch {
		case p.Unknown && x.Config.NATS.Profile == stream.Dev && p.Check == state.CheckDisk:
			x.skip(name, "nothing: the embedded Redis of ledgerfeed dev has a synced journal of its own", "Redis does not say how it keeps its data")
		case p.Unknown && x.Config.NATS.Profile == stream.Dev:
		case p.Unknown, p.Check == state.CheckMemory, p.Check == state.CheckReplication, p.Check == state.CheckEviction && !p.Grave:
			x.warn(name, p.Remedy, "%s", p.Text)
		default:
			x.fail(name, p.Remedy, "%s", p.Text)
		}
	}
	if !found[checkRedisDisk] {
		x.ok(checkRedisDisk, "appendonly yes, appendfsync %s", orUnknown(s.Fsync))
	}
	if !found[checkRedisFull] {
		x.ok(checkRedisFull, "%s, %d of %s used", s.Policy, s.UsedBytes>>20, orUnbounded(s.MaxBytes))
	}
}

func orUnbounded(bytes int64) string {
	if bytes == 0 {
		return "unbounded MiB"
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
