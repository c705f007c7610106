package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/faultproxy"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
)

// replica is one process of a service, with its own links.
type replica struct {
	*process
	admin string
	links map[string][]*faultproxy.Proxy

	mu      sync.Mutex     // guards the rest
	skew    time.Duration  // of its clock, from the next start on
	control string         // the file that steers it while it runs; "" if nothing does
	deadly  sabotage.Point // where it dies, from the next start on
	ran     [2]int         // how often it was started: this version, the other one
}

func (p *plant) newReplica(ctx context.Context, free ports, kind string, i int) (r *replica, listen string, err error) {
	r = &replica{links: map[string][]*faultproxy.Proxy{}}
	name := fmt.Sprintf("%s-%d", kind, i+1)
	r.process = newProcess(p.journal, p.dir, kind, name, nil)
	if i == 0 && p.steers && kind != "ingress" {
		r.control = filepath.Join(p.dir, name+".control")
	}
	admin, err := free.next(ctx)
	if err != nil {
		return nil, "", err
	}
	r.admin = local(admin)
	var urls []string
	for _, port := range p.cluster.clients {
		link, err := p.link(ctx, r, "broker", local(port))
		if err != nil {
			return nil, "", err
		}
		urls = append(urls, "nats://"+link.Addr())
	}
	env := []string{
		"LEDGERFEED_NATS_URL=" + strings.Join(urls, ","), "LEDGERFEED_NATS_PROFILE=cluster",
		"LEDGERFEED_NATS_MONITOR_URL=" + p.cluster.monitorURL(), fmt.Sprintf("LEDGERFEED_NATS_EVENTS_MAX_BYTES=%d", eventBytes),
		fmt.Sprintf("LEDGERFEED_NATS_RETRY_MAX_BYTES=%d", retryBytes), fmt.Sprintf("LEDGERFEED_NATS_DEAD_MAX_BYTES=%d", deadBytes),
		"LEDGERFEED_ADMIN_LISTEN=" + r.admin, "LEDGERFEED_LOG_LEVEL=info",
	}
	if kind == "ingress" {
		port, err := free.next(ctx)
		if err != nil {
			return nil, "", err
		}
		listen = local(port)
		env = append(env, "LEDGERFEED_INGRESS_LISTEN="+listen, "LEDGERFEED_INGRESS_APPS="+app+"="+verifierToken)
	} else {
		more, err := p.backendEnv(ctx, r)
		if err != nil {
			return nil, "", err
		}
		env = append(env, more...)
	}
	r.spec = func() spec { return p.serviceSpec(r, env) }
	return r, listen, nil
}

// backendEnv is what processor and reconciler have in common, and their own.
func (p *plant) backendEnv(ctx context.Context, r *replica) ([]string, error) {
	redis, err := p.link(ctx, r, "redis", local(p.cache.port()))
	if err != nil {
		return nil, err
	}
	api, err := p.link(ctx, r, "api", p.books.addr)
	if err != nil {
		return nil, err
	}
	env, err := p.cache.env(redis.Addr(), r.kind)
	if err != nil {
		return nil, err
	}
	env = append(env,
		"LEDGERFEED_CONNECTION_KEYS="+connectionKey.Reveal(),
		"LEDGERFEED_QBO_BASE_URL=http://"+api.Addr(), "LEDGERFEED_QBO_TOKEN_URL=http://"+api.Addr()+"/oauth2/v1/tokens/bearer",
		"LEDGERFEED_QBO_CLIENT_ID="+clientID, "LEDGERFEED_QBO_CLIENT_SECRET="+clientSecret, "LEDGERFEED_QBO_TIMEOUT=6s",
	)
	if r.kind == "reconciler" {
		return append(env,
			"LEDGERFEED_RECONCILER_START_JITTER=500ms", "LEDGERFEED_RECONCILER_GRACE=10s", "LEDGERFEED_RECONCILER_RETRY_INTERVAL=2s",
			"LEDGERFEED_RECONCILER_VERIFY_EVERY=200ms", "LEDGERFEED_RECONCILER_VERIFY_TIMEOUT=15s", "LEDGERFEED_RECONCILER_POLL_INTERVAL=300ms",
			"LEDGERFEED_RECONCILER_LEASE_TTL="+leaseTTL.String(), "LEDGERFEED_RECONCILER_QUERY_ENTITIES=TimeActivity",
		), nil
	}
	table, err := p.link(ctx, r, "postgres", p.tableAddr())
	if err != nil {
		return nil, err
	}
	post, err := p.link(ctx, r, "endpoint", p.endpoint.addr)
	if err != nil {
		return nil, err
	}
	return append(env,
		"LEDGERFEED_PROCESSOR_SINKS="+sinkTable+"=postgres:"+strings.Replace(p.database.url(0), local(0), table.Addr(), 1)+
			","+sinkPost+"=webhook:http://"+post.Addr()+"/changes",
		"LEDGERFEED_PROCESSOR_WEBHOOK_SECRETS="+sinkPost+"="+endpointSecret, "LEDGERFEED_PROCESSOR_WEBHOOK_ALLOW=127.0.0.0/8",
		"LEDGERFEED_PROCESSOR_ACK_WAIT="+ackWait.String(), "LEDGERFEED_PROCESSOR_READ_TIMEOUT=20s", "LEDGERFEED_PROCESSOR_WRITE_TIMEOUT=5s",
	), nil
}

// serviceSpec is how a replica starts now: its clock may be wrong, and a bug planted.
func (p *plant) serviceSpec(r *replica, env []string) spec {
	r.mu.Lock()
	skew, deadly := r.skew, r.deadly
	altered := skew != 0 || deadly != "" || p.mutant != "" || r.control != ""
	binary, ours := p.bin.plain[r.kind], true
	// The older one first: the services of a company that upgrades.
	if p.bin.beside != nil && !altered && r.ran[1] <= r.ran[0] {
		binary, ours = p.bin.beside[r.kind], false
		r.ran[1]++
	} else {
		r.ran[0]++
	}
	r.mu.Unlock()
	env = slices.Clone(env)
	if r.kind == "reconciler" && ours { // an older version refuses what it does not know
		env = append(env, "LEDGERFEED_RECONCILER_HEAL_INTERVAL=5s")
	}
	if r.kind == "reconciler" {
		every := time.Duration(p.scanEvery.Load()).String()
		env = append(env, "LEDGERFEED_RECONCILER_INTERVAL="+every, "LEDGERFEED_RECONCILER_QUERY_INTERVAL="+every)
	}
	if r.kind == "processor" {
		env = append(env, mutants[p.mutant].env...)
	}
	if altered {
		binary = p.bin.altered[r.kind]
		env = append(env, "CHAOS_CLOCK="+skew.String(), "CHAOS_BUG="+p.mutant, "CHAOS_CRASH="+string(deadly), "CHAOS_CONTROL="+r.control)
	}
	return spec{binary: binary, env: env, dir: p.dir}
}

// oneVersion names a service of which no replica ran in both versions, if there are
// two.
func (p *plant) oneVersion() string {
	if p.bin.beside == nil {
		return ""
	}
	for _, kind := range services {
		if !slices.ContainsFunc(p.services[kind], (*replica).changedVersion) {
			return kind
		}
	}
	return ""
}

func (r *replica) changedVersion() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ran[0] > 0 && r.ran[1] > 0
}

func (r *replica) setSkew(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.skew = d
}

// steer tells the replica what package sabotage makes of its control file; "" ends it.
// The file is replaced at once: the replica may read it at any moment.
func (r *replica) steer(text string) error {
	if err := os.WriteFile(r.control+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(r.control+".new", r.control)
}

// stopped reports whether the replica has stopped where it was told to, and takes that
// note away.
func (r *replica) stopped() bool { return os.Remove(r.control+".stopped") == nil }
