package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/secrets"
)

// The ways in which Redis is set up: one server; one with TLS and a user for each service,
// as the deployment ships it; a Redis Cluster of three masters; a master with a replica and
// a Sentinel.
const (
	redisSingle   = "single"
	redisSecured  = "secured"
	redisCluster  = "cluster"
	redisSentinel = "sentinel"
)

// RedisKinds are the ways in which Redis can be set up, in the order of the help.
func RedisKinds() []string { return []string{redisSingle, redisSecured, redisCluster, redisSentinel} }

// drawRedis draws one in which all of the faults can be made or, if there is none, any of
// them: the others are left out.
func drawRedis(rng *rand.Rand, from []fault) string {
	var all, some []string
	for _, kind := range RedisKinds() {
		switch n := len(fitting(from, kind)); {
		case n == len(from):
			all = append(all, kind)
		case n > 0:
			some = append(some, kind)
		}
	}
	if len(all) > 0 {
		return choose(rng, all)
	}
	return choose(rng, some)
}

// fitting are the faults that can be made with that kind of Redis.
func fitting(from []fault, kind string) (fit []fault) {
	for _, f := range from {
		if f.redis == "" || strings.Contains(f.redis, kind) {
			fit = append(fit, f)
		}
	}
	return fit
}

// cache is Redis, whose servers sync every write to their files.
type cache struct {
	kind    string
	nodes   []*cacheNode // one, the masters of a cluster, or a master and its replica
	watcher *cacheNode   // the Sentinel, if there is one
	secrets string       // directory, "" where there are no users
	store   *state.Store // ours, which nothing cuts
}

// cacheNode is a server. Its directory holds nothing but what it writes.
type cacheNode struct {
	process *process
	port    int
	dir     string
}

// masterName is what the Sentinel calls the master.
const masterName = "feed"

func newCache(ctx context.Context, dir, binary, kind string, free ports, j *journal) (*cache, error) {
	c := &cache{kind: kind}
	n := map[string]int{redisSingle: 1, redisSecured: 1, redisCluster: 3, redisSentinel: 2}[kind]
	for i := range n {
		name := "redis"
		if i > 0 {
			name = fmt.Sprintf("redis-%d", i+1)
		}
		if err := c.add(ctx, dir, name, binary, free, j); err != nil {
			return nil, err
		}
	}
	switch kind {
	case redisSecured:
		c.secrets = filepath.Join(dir, "secrets")
		return c, c.makeUsers()
	case redisSentinel:
		return c, c.addSentinel(ctx, dir, binary, free, j)
	}
	return c, nil
}

func (c *cache) add(ctx context.Context, dir, name, binary string, free ports, j *journal) error {
	port, err := free.next(ctx)
	if err != nil {
		return err
	}
	own := []string{"--port", strconv.Itoa(port)}
	switch c.kind {
	case redisSecured:
		from := filepath.Join(dir, "secrets")
		own = []string{
			"--port", "0", "--tls-port", strconv.Itoa(port), "--tls-auth-clients", "no", "--aclfile", filepath.Join(from, "redis_users"),
			"--tls-cert-file", filepath.Join(from, "redis.crt"), "--tls-key-file", filepath.Join(from, "redis.key"), "--tls-ca-cert-file", filepath.Join(from, "ca.crt"),
		}
	case redisCluster:
		bus, err := free.next(ctx)
		if err != nil {
			return err
		}
		own = append(own, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus), "--cluster-node-timeout", "2000")
	case redisSentinel:
		own = append(own, "--repl-diskless-sync-delay", "0")
	}
	node := &cacheNode{port: port, dir: filepath.Join(dir, name)}
	if err := os.MkdirAll(node.dir, 0o755); err != nil {
		return err
	}
	node.process = newProcess(j, dir, "redis", name, func() spec {
		args := append([]string{"--bind", "127.0.0.1", "--dir", node.dir, "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--daemonize", "no"}, own...)
		return spec{binary: binary, dir: node.dir, env: []string{"LC_ALL=C"}, args: args}
	})
	c.nodes = append(c.nodes, node)
	return nil
}

// operator is our own user beside those of the services, and its password.
const operator, operatorPassword = "operator", "operator-of-the-chaos-run"

// makeUsers makes the users and certificates as a deployment has them.
func (c *cache) makeUsers() error {
	err := secrets.Make(secrets.Options{Dir: c.secrets, IngressApps: app + "=" + verifierToken, ClientSecret: clientSecret})
	if err != nil {
		return err
	}
	path := filepath.Join(c.secrets, "redis_users")
	users, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil { // its mode forbids to write
		return err
	}
	return os.WriteFile(path, append(users, "user "+operator+" on >"+operatorPassword+" ~* &* +@all\n"...), 0o600)
}

// addSentinel adds a Sentinel that needs nobody else's vote. It writes what it learns into
// its file.
func (c *cache) addSentinel(ctx context.Context, dir, binary string, free ports, j *journal) error {
	port, err := free.next(ctx)
	if err != nil {
		return err
	}
	w := &cacheNode{port: port, dir: filepath.Join(dir, "redis-sentinel")}
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		return err
	}
	file := filepath.Join(w.dir, "sentinel.conf")
	text := fmt.Sprintf("bind 127.0.0.1\nport %d\nsentinel monitor %s 127.0.0.1 %d 1\nsentinel down-after-milliseconds %s 1000\nsentinel failover-timeout %s 6000\n",
		port, masterName, c.nodes[0].port, masterName, masterName)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	w.process = newProcess(j, dir, "redis", "redis-sentinel", func() spec {
		return spec{binary: binary, dir: w.dir, env: []string{"LC_ALL=C"}, args: []string{file, "--sentinel"}}
	})
	c.watcher = w
	return nil
}

func (c *cache) processes() (all []*process) {
	for _, n := range c.nodes {
		all = append(all, n.process)
	}
	if c.watcher != nil {
		all = append(all, c.watcher.process)
	}
	return all
}

// port is where the services connect first.
func (c *cache) port() int {
	if c.watcher != nil {
		return c.watcher.port
	}
	return c.nodes[0].port
}

// env are the settings of a service that reaches Redis at addr.
func (c *cache) env(addr, service string) ([]string, error) {
	u := "LEDGERFEED_REDIS_URL=redis://" + addr + "/0"
	switch c.kind {
	case redisSecured:
		text, err := os.ReadFile(filepath.Join(c.secrets, "redis_"+service+"_url"))
		if err != nil {
			return nil, err
		}
		user, _, _ := strings.Cut(strings.TrimSpace(string(text)), "@")
		return []string{"LEDGERFEED_REDIS_URL=" + user + "@" + addr + "/0", "LEDGERFEED_REDIS_CA_FILE=" + filepath.Join(c.secrets, "ca.crt")}, nil
	case redisCluster:
		return []string{u + "?addr=" + local(c.nodes[1].port) + "&addr=" + local(c.nodes[2].port), "LEDGERFEED_REDIS_CLUSTER=true"}, nil
	case redisSentinel:
		return []string{u, "LEDGERFEED_REDIS_SENTINEL=" + masterName}, nil
	}
	return []string{u}, nil
}

// config is our own way to it.
func (c *cache) config() state.Config {
	addr := local(c.port())
	switch c.kind {
	case redisSecured:
		return state.Config{URL: secret.String("rediss://" + operator + ":" + operatorPassword + "@" + addr + "/0"), CAFile: filepath.Join(c.secrets, "ca.crt")}
	case redisCluster:
		return state.Config{URL: secret.String("redis://" + addr + "/0?addr=" + local(c.nodes[1].port) + "&addr=" + local(c.nodes[2].port)), Cluster: true}
	case redisSentinel:
		return state.Config{URL: secret.String("redis://" + addr + "/0"), Sentinel: masterName}
	}
	return state.Config{URL: secret.String("redis://" + addr + "/0")}
}

// assemble joins the servers of a cluster, and makes the replica follow. They are started.
func (c *cache) assemble(ctx context.Context) error {
	switch c.kind {
	case redisCluster:
		return c.join(ctx)
	case redisSentinel:
		return c.replicate(ctx)
	}
	return nil
}

const redisSlots = 16384

func (c *cache) join(ctx context.Context) error {
	for i, node := range c.nodes {
		err := node.do(ctx, func(r *redis.Client) error {
			if err := r.ClusterAddSlotsRange(ctx, i*redisSlots/len(c.nodes), (i+1)*redisSlots/len(c.nodes)-1).Err(); err != nil && !strings.Contains(err.Error(), "already busy") {
				return err
			}
			if i == 0 {
				return nil
			}
			bus, err := r.ConfigGet(ctx, "cluster-port").Result()
			if err != nil {
				return err
			}
			own := strconv.Itoa(node.port)
			return c.nodes[0].do(ctx, func(r *redis.Client) error {
				return r.Do(ctx, "CLUSTER", "MEET", "127.0.0.1", own, bus["cluster-port"]).Err()
			})
		})
		if err != nil {
			return err
		}
	}
	for _, node := range c.nodes {
		err := node.do(ctx, func(r *redis.Client) error {
			info, err := r.ClusterInfo(ctx).Result()
			if err == nil && (!strings.Contains(info, "cluster_state:ok") || infoNumber(info, "cluster_known_nodes") != len(c.nodes)) {
				err = errors.New("the cluster is not complete yet")
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *cache) replicate(ctx context.Context) error {
	err := c.nodes[1].do(ctx, func(r *redis.Client) error { return r.ReplicaOf(ctx, "127.0.0.1", strconv.Itoa(c.nodes[0].port)).Err() })
	if err != nil {
		return err
	}
	_ = c.watcher.do(ctx, func(r *redis.Client) error {
		// It asks the servers every ten seconds otherwise. A Redis before 7.0 cannot be told.
		_ = r.Do(ctx, "SENTINEL", "DEBUG", "INFO-PERIOD", "500").Err()
		return r.Ping(ctx).Err()
	})
	return c.replicated(ctx)
}

// replicated waits until the replica follows the master, and the Sentinel knows both.
func (c *cache) replicated(ctx context.Context) error {
	return c.watcher.do(ctx, func(r *redis.Client) error {
		sentinel := redis.NewSentinelClient(r.Options())
		defer func() { _ = sentinel.Close() }()
		all, err := sentinel.Replicas(ctx, masterName).Result()
		if err != nil {
			return err
		}
		for _, replica := range all {
			if replica["master-link-status"] == "ok" && replica["flags"] == "slave" {
				return nil
			}
		}
		return errors.New("no replica follows the master yet")
	})
}

// master is the place among the nodes of the server that takes writes, as the Sentinel says.
func (c *cache) master(ctx context.Context) (int, error) {
	at := -1
	err := c.watcher.do(ctx, func(r *redis.Client) error {
		sentinel := redis.NewSentinelClient(r.Options())
		defer func() { _ = sentinel.Close() }()
		addr, err := sentinel.GetMasterAddrByName(ctx, masterName).Result()
		if err != nil {
			return err
		}
		for i, node := range c.nodes {
			if addr[1] == strconv.Itoa(node.port) {
				at = i
				return nil
			}
		}
		return fmt.Errorf("the Sentinel names port %s", addr[1])
	})
	return at, err
}

// do repeats f at the server until it succeeds.
func (n *cacheNode) do(ctx context.Context, f func(*redis.Client) error) error {
	r := redis.NewClient(&redis.Options{Addr: local(n.port)})
	defer func() { _ = r.Close() }()
	return until(ctx, func(context.Context) error { return f(r) })
}

// copyFile copies what a restart would read. The server runs on: its file is
// only ever appended to.
func (n *cacheNode) copyFile(ctx context.Context, to string) error { return copyTree(ctx, n.dir, to) }

// rollBack makes a copy what the next start reads. The server is down.
func (n *cacheNode) rollBack(ctx context.Context, from string) error {
	return replaceTree(ctx, from, n.dir)
}

// empty leaves nothing. The server is down.
func (n *cacheNode) empty() error {
	entries, err := os.ReadDir(n.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(n.dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
