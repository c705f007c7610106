package state

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/mod/semver"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// leastRedis is the version of Redis, or of what a product compatible with it calls its
// own Redis version, that the scripts need.
const leastRedis = "6.2.0"

// The checks of a Redis.
const (
	CheckVersion     = "version"
	CheckDisk        = "disk"
	CheckEviction    = "eviction"
	CheckMemory      = "memory"
	CheckReplication = "replication"
)

// Problem is a way in which Redis may lose what it is given.
type Problem struct {
	Check string
	// Text says what is wrong and what comes of it, Remedy what to do.
	Text, Remedy string
	// Grave problems lose data in normal operation: services do not start with one.
	Grave bool
	// Unknown says that Redis does not tell: hosted servers forbid the question.
	Unknown bool
}

// UnsafeError says that Redis loses data in normal operation.
type UnsafeError struct {
	Address string
	Problem Problem
}

func (e *UnsafeError) Error() string {
	return fmt.Sprintf("redis at %s: %s: %s", e.Address, e.Problem.Text, e.Problem.Remedy)
}

// RequireSafe returns an *UnsafeError where Redis loses data in normal operation.
func (s *Store) RequireSafe(ctx context.Context) error {
	server, err := s.Server(ctx)
	if err != nil {
		return err
	}
	for _, p := range server.Problems() {
		if p.Grave {
			return &UnsafeError{Address: s.address, Problem: p}
		}
	}
	return nil
}

// nearlyFull is the share of its memory from which on a Redis is reported.
const nearlyFull = 0.8

// replicaLag is how far a replica may be behind, in seconds, before a failover loses more
// than the last moments.
const replicaLag = 10

// Problems are what is wrong with the way a Redis keeps its data, the grave ones first. A
// check that found nothing is not in it.
func (s Server) Problems() (all []Problem) {
	add := func(p Problem) {
		if p.Grave {
			all = append([]Problem{p}, all...)
			return
		}
		all = append(all, p)
	}
	if s.Version != "" && semver.Compare("v"+s.Version, "v"+leastRedis) < 0 {
		add(Problem{Check: CheckVersion, Grave: true, Text: fmt.Sprintf("%s %s is too old: %s or newer is needed", s.Product, s.Version, leastRedis), Remedy: "upgrade it"})
	}
	for _, p := range []*Problem{s.diskProblem(), s.evictionProblem(), s.memoryProblem(), s.replicationProblem()} {
		if p != nil {
			add(*p)
		}
	}
	return all
}

func (s Server) diskProblem() *Problem {
	switch {
	case s.AppendOnly == "":
		return &Problem{Check: CheckDisk, Unknown: true, Text: "Redis does not say whether it writes to disk", Remedy: "see in the provider's console that the append-only file is on"}
	case s.AppendOnly == "no":
		return &Problem{Check: CheckDisk, Text: "appendonly is no: a restart of Redis loses cursors, marks and the newest refresh tokens, and companies must be connected again", Remedy: "set appendonly yes and appendfsync everysec or always"}
	case s.AppendFailed:
		return &Problem{Check: CheckDisk, Text: "the last write of the append-only file failed", Remedy: "see the log and the disk of Redis"}
	case s.Fsync == "no":
		return &Problem{Check: CheckDisk, Text: "appendfsync is no: a power cut loses what the kernel has not written, refresh tokens among it", Remedy: "set appendfsync everysec or always"}
	}
	return nil
}

// evictionProblem: keys that have no expiry hold tokens, cursors and marks. Those that
// expire may go at any time, so that volatile-* is safe.
func (s Server) evictionProblem() *Problem {
	switch {
	case s.Policy == "":
		return &Problem{Check: CheckEviction, Unknown: true, Text: "Redis does not say what it does when it is full", Remedy: "see in the provider's console that maxmemory-policy is noeviction"}
	case strings.HasPrefix(s.Policy, "allkeys-"):
		return &Problem{
			Check: CheckEviction, Grave: true, Remedy: "set maxmemory-policy noeviction, and alert on memory instead",
			Text: fmt.Sprintf("maxmemory-policy is %s: when its memory is full, Redis throws away cursors and tokens (evicted so far: %d keys)", s.Policy, s.Evicted),
		}
	case s.Policy == "noeviction" && s.Evicted > 0:
		return &Problem{
			Check: CheckEviction, Remedy: "see with ledgerfeed doctor whether connections are lost; scans find lost cursors by themselves. The count starts at zero when Redis restarts",
			Text: fmt.Sprintf("%d keys were evicted since Redis started, under another maxmemory-policy than noeviction: cursors and tokens may be among them", s.Evicted),
		}
	}
	return nil
}

func (s Server) memoryProblem() *Problem {
	if s.UsedBytes == 0 {
		return &Problem{Check: CheckMemory, Unknown: true, Text: "Redis does not say how much memory it uses", Remedy: "alert on its memory in the provider's console"}
	}
	if s.MaxBytes <= 0 && s.SystemBytes > 0 && float64(s.UsedBytes) > nearlyFull*float64(s.SystemBytes) {
		return &Problem{
			Check: CheckMemory, Remedy: "give it a larger machine, and set maxmemory below its memory",
			Text: fmt.Sprintf("%d of the machine's %d MiB used, without a maxmemory: when they are full, the kernel ends Redis", s.UsedBytes>>20, s.SystemBytes>>20),
		}
	}
	if s.MaxBytes <= 0 || float64(s.UsedBytes) <= nearlyFull*float64(s.MaxBytes) {
		return nil
	}
	return &Problem{Check: CheckMemory, Text: fmt.Sprintf("%d of %d MiB used", s.UsedBytes>>20, s.MaxBytes>>20), Remedy: "raise maxmemory: when it is full, every write is refused"}
}

func (s Server) replicationProblem() *Problem {
	if s.Replica {
		text := "this Redis is a replica and takes no writes"
		if s.LinkDown {
			text += ", and does not reach its master"
		}
		return &Problem{Check: CheckReplication, Text: text, Remedy: "let redis.url name the master, or the Sentinels (redis.sentinel)"}
	}
	if s.ReplicaLag <= replicaLag {
		return nil
	}
	return &Problem{Check: CheckReplication, Text: fmt.Sprintf("a replica is %d seconds behind: a failover loses that much", s.ReplicaLag), Remedy: "see the log of the replica and the network between"}
}

// checkInterval is how often a Redis is asked while a service runs.
const checkInterval = 5 * time.Minute

// WatchServer asks Redis every few minutes how it keeps its data, until ctx ends, and logs
// what has changed since the last time. found is told how many problems there are by check.
func (s *Store) WatchServer(ctx context.Context, log *zap.Logger, found func(map[string]int)) error {
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	known := map[string]bool{}
	for {
		known = s.lookForProblems(ctx, log, found, known)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *Store) lookForProblems(ctx context.Context, log *zap.Logger, found func(map[string]int), known map[string]bool) map[string]bool {
	server, err := s.Server(ctx)
	if err != nil {
		return known // readiness says that it does not answer
	}
	now, counts := map[string]bool{}, map[string]int{CheckVersion: 0, CheckDisk: 0, CheckEviction: 0, CheckMemory: 0, CheckReplication: 0}
	for _, p := range server.Problems() {
		if p.Unknown {
			silent := p.Check + "?"
			now[silent] = true
			if !known[silent] {
				log.Warn("redis persistence unknown", telemetry.Part(p.Check), telemetry.Reason(p.Text), zap.String("remedy", p.Remedy))
			}
			continue
		}
		counts[p.Check]++
		now[p.Check] = true
		if !known[p.Check] {
			log.Warn("redis may lose data", telemetry.Part(p.Check), telemetry.Reason(p.Text), zap.String("remedy", p.Remedy))
		}
	}
	found(counts)
	return now
}
