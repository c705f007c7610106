package state

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Server is what Redis says of itself. A field is empty or zero where it does not
// say: hosted servers often forbid the question, and some imitations know fewer.
type Server struct {
	Version string
	// Product is redis, or what it calls itself: valkey.
	Product string
	// AppendOnly is yes or no: whether writes go to a file.
	AppendOnly string
	// Fsync is when that file is synced: always, everysec or no.
	Fsync string
	// AppendFailed says that the last write to the file or the last sync failed.
	AppendFailed bool
	// Policy is what goes when the memory is full, such as noeviction.
	Policy string
	// UsedBytes of MaxBytes of memory; 0 is no bound. SystemBytes is that of its machine.
	UsedBytes, MaxBytes, SystemBytes int64
	// Evicted is how many keys went since its start because the memory was full.
	Evicted int64
	// Replica says that it follows another one, and LinkDown that it does not reach that.
	Replica, LinkDown bool
	// ReplicaLag is how many seconds its slowest replica is behind; 0 without one.
	ReplicaLag int64
}

// Server asks Redis how it keeps what it is given. Of a cluster one node answers.
// The error is for a server that does not answer at all.
func (s *Store) Server(ctx context.Context) (Server, error) {
	if err := s.Ping(ctx); err != nil {
		return Server{}, err
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var all strings.Builder
	for _, section := range []string{"server", "persistence", "memory", "stats", "replication"} {
		if text, err := s.db.Info(ctx, section).Result(); err == nil {
			all.WriteString(text + "\n")
		}
	}
	said := infoFields(all.String())
	for _, name := range []string{"appendonly", "appendfsync", "maxmemory", "maxmemory-policy"} {
		values, err := s.db.ConfigGet(ctx, name).Result()
		if err != nil {
			continue
		}
		said["config "+name] = values[name]
	}
	if ctx.Err() != nil {
		return Server{}, fmt.Errorf("read how Redis at %s persists data: %w", s.address, ctx.Err())
	}
	return serverOf(said), nil
}

// infoFields are what an answer to INFO says.
func infoFields(info string) map[string]string {
	said := map[string]string{}
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			said[name] = value
		}
	}
	return said
}

func serverOf(said map[string]string) Server {
	number := func(text string) int64 {
		n, _ := strconv.ParseInt(text, 10, 64) // 0: not said
		return n
	}
	first := func(texts ...string) string {
		for _, t := range texts {
			if t != "" {
				return t
			}
		}
		return ""
	}
	appends := map[string]string{"0": "no", "1": "yes"}[said["aof_enabled"]]
	return Server{
		Version:      said["redis_version"],
		Product:      first(said["server_name"], "redis"),
		AppendOnly:   first(said["config appendonly"], appends),
		Fsync:        said["config appendfsync"],
		AppendFailed: said["aof_last_write_status"] == "err" || said["aof_last_bgrewrite_status"] == "err",
		Policy:       first(said["config maxmemory-policy"], said["maxmemory_policy"]),
		UsedBytes:    number(said["used_memory"]),
		MaxBytes:     number(first(said["config maxmemory"], said["maxmemory"])),
		SystemBytes:  number(said["total_system_memory"]),
		Evicted:      number(said["evicted_keys"]),
		Replica:      said["role"] == "slave",
		LinkDown:     said["master_link_status"] == "down",
		ReplicaLag:   replicaLagOf(said),
	}
}

// replicaLagOf reads slave0:ip=…,port=…,state=online,offset=…,lag=3 and its like.
func replicaLagOf(said map[string]string) (most int64) {
	for i := 0; ; i++ {
		replica, ok := said["slave"+strconv.Itoa(i)]
		if !ok {
			return most
		}
		for field := range strings.SplitSeq(replica, ",") {
			if text, is := strings.CutPrefix(field, "lag="); is {
				n, _ := strconv.ParseInt(text, 10, 64) // 0: not said
				most = max(most, n)
			}
		}
	}
}
