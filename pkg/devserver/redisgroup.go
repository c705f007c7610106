package devserver

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisNode is a redis-server on loopback that is to be one of a cluster: its port, and that
// of the cluster's own connections.
type RedisNode struct{ Port, Bus int }

const redisSlots = 16384

func redisAt(port int) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))})
}

// PingRedis asks a server on loopback for a sign of life.
func PingRedis(ctx context.Context, port int) error {
	c := redisAt(port)
	defer func() { _ = c.Close() }()
	return c.Ping(ctx).Err()
}

// JoinRedisCluster makes masters of servers that take connections, which share the slots, and
// returns when the cluster is complete.
func JoinRedisCluster(ctx context.Context, nodes []RedisNode) error {
	for i, n := range nodes {
		if err := joinRedis(ctx, nodes[0], n, i*redisSlots/len(nodes), (i+1)*redisSlots/len(nodes)-1); err != nil {
			return err
		}
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, n := range nodes {
		for !completeRedis(ctx, n, len(nodes)) {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("the cluster is not complete at port %d: %w", n.Port, context.Cause(ctx))
			}
		}
	}
	return nil
}

func completeRedis(ctx context.Context, n RedisNode, nodes int) bool {
	c := redisAt(n.Port)
	defer func() { _ = c.Close() }()
	info, err := c.ClusterInfo(ctx).Result()
	return err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d\r", nodes))
}

func joinRedis(ctx context.Context, first, n RedisNode, from, to int) error {
	c := redisAt(n.Port)
	defer func() { _ = c.Close() }()
	if err := c.ClusterAddSlotsRange(ctx, from, to).Err(); err != nil {
		return fmt.Errorf("assign slots: %w", err)
	}
	if n == first {
		return nil
	}
	return c.Do(ctx, "CLUSTER", "MEET", "127.0.0.1", first.Port, first.Bus).Err()
}

// RedisSentinel is a Sentinel on loopback, and the name that it has for the master.
type RedisSentinel struct {
	Port   int
	Master string
}

// FollowRedis makes a server the replica of another one.
func FollowRedis(ctx context.Context, port, master int) error {
	c := redisAt(port)
	defer func() { _ = c.Close() }()
	return c.ReplicaOf(ctx, "127.0.0.1", strconv.Itoa(master)).Err()
}

// Hasten has the Sentinel ask the servers twice a second instead of every ten seconds. A Redis
// before 7.0 cannot be told.
func (s RedisSentinel) Hasten(ctx context.Context) error {
	c := redisAt(s.Port)
	defer func() { _ = c.Close() }()
	return c.Do(ctx, "SENTINEL", "DEBUG", "INFO-PERIOD", "500").Err()
}

// Current is the port of the master.
func (s RedisSentinel) Current(ctx context.Context) (int, error) {
	c := s.client()
	defer func() { _ = c.Close() }()
	addr, err := c.GetMasterAddrByName(ctx, s.Master).Result()
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(addr[1])
}

// Replicated reports whether the Sentinel knows a replica that has all that the master had when
// it began to follow, and follows on.
func (s RedisSentinel) Replicated(ctx context.Context) (bool, error) {
	c := s.client()
	defer func() { _ = c.Close() }()
	all, err := c.Replicas(ctx, s.Master).Result()
	for _, r := range all {
		if r["master-link-status"] == "ok" && r["flags"] == "slave" {
			return true, nil
		}
	}
	return false, err
}

func (s RedisSentinel) client() *redis.SentinelClient {
	return redis.NewSentinelClient(&redis.Options{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port))})
}
