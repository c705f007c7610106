package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/faultproxy"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

const (
	replicas  = 2
	sinkTable = "table"
	sinkPost  = "post"
	ackWait   = 4 * time.Second
	leaseTTL  = 3 * time.Second
	startWait = 3 * time.Minute // for all that is started, on a busy machine
	drainWait = 45 * time.Second
	// Small, so that streams fill up.
	eventBytes = 8 << 20
	retryBytes = 2 << 20
	deadBytes  = 1 << 20
)

// plant is everything that runs, and the ways in that nothing can cut.
type plant struct {
	dir     string
	journal *journal
	bin     binaries
	mutant  string // planted bug, "" for none
	// steers: one replica of processor and reconciler can be steered while it runs.
	steers bool
	// pools: a pooler is in front of the database, where there is one on the machine.
	pools bool
	// redis is how Redis is set up.
	redis string
	// scanEvery is reconciler.interval, a time.Duration, from the next start of a
	// reconciler on.
	scanEvery atomic.Int64

	cluster  *cluster
	cache    *cache
	database *database
	bouncer  *bouncer // nil: none
	books    *books
	endpoint *endpoint
	front    *front
	acks     *acks
	services map[string][]*replica
	links    map[string][]*faultproxy.Proxy // by what they lead to: "broker", "redis", …

	conn        *stream.Conn
	state       *state.Store
	oauth       *qbo.OAuth
	connections *connection.Store
	realms      []string
	quiet       string // the last of realms: nothing changes there
	journals    []*journal
	consents    sync.Map // realm → time.Time of the last one
}

func (p *plant) openJournal(name string) (*journal, error) {
	j, err := newJournal(filepath.Join(p.dir, name+".jsonl"))
	if err == nil {
		p.journals = append(p.journals, j)
	}
	return j, err
}

// open starts everything. On an error the caller closes what is open.
func (p *plant) open(ctx context.Context, o Options, seed uint64, speed float64) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startWait, errors.New("the plant did not start in time"))
	defer cancel()
	free := ports{}
	if err := p.openLogs(ctx); err != nil {
		return err
	}
	if p.cluster, err = newCluster(ctx, p.dir, p.bin.broker, free, p.journal); err != nil {
		return err
	}
	if p.cache, err = newCache(ctx, p.dir, p.bin.redis, p.redis, free, p.journal); err != nil {
		return err
	}
	if p.database, err = newDatabase(ctx, p.dir, p.bin.initdb, free, p.journal); err != nil {
		return err
	}
	if p.pools && p.bin.pgbouncer != "" {
		if p.bouncer, err = newBouncer(ctx, p.dir, p.bin.pgbouncer, p.database, free, p.journal); err != nil {
			return err
		}
	}
	if p.books, err = newBooks(ctx, seed, speed); err != nil {
		return err
	}
	for _, s := range p.servers() {
		s.start()
	}
	if err := p.connect(ctx); err != nil {
		return err
	}
	if err := p.makeRealms(ctx, o.Realms, seed); err != nil {
		return err
	}
	p.services, p.links = map[string][]*replica{}, map[string][]*faultproxy.Proxy{}
	var behind []string
	for _, kind := range services {
		for i := range replicas {
			r, listen, err := p.newReplica(ctx, free, kind, i)
			if err != nil {
				return err
			}
			p.services[kind] = append(p.services[kind], r)
			if kind == "ingress" {
				link, err := p.link(ctx, r, "ingress", listen)
				if err != nil {
					return err
				}
				behind = append(behind, link.Addr())
			}
		}
	}
	webhooks, err := p.openJournal("webhooks")
	if err != nil {
		return err
	}
	if p.front, err = newFront(ctx, behind, webhooks); err != nil {
		return err
	}
	for _, r := range p.replicas() {
		r.start()
	}
	if err := p.ready(ctx); err != nil {
		return err
	}
	if err := p.database.watch(ctx); err != nil {
		return fmt.Errorf("watch the table: %w", err)
	}
	p.books.SetWebhookURL(p.front.url)
	return nil
}

func (p *plant) openLogs(ctx context.Context) error {
	deliveries, err := p.openJournal("deliveries")
	if err != nil {
		return err
	}
	if p.endpoint, err = newEndpoint(ctx, deliveries); err != nil {
		return err
	}
	pubacks, err := p.openJournal("pubacks")
	p.acks = newAcks(pubacks)
	return err
}

// servers are the processes that are not ours.
func (p *plant) servers() []*process {
	var all []*process
	if p.cluster != nil {
		all = append(all, p.cluster.members...)
	}
	if p.cache != nil {
		all = append(all, p.cache.processes()...)
	}
	if p.database != nil {
		all = append(all, p.database.processes()...)
	}
	if p.bouncer != nil {
		all = append(all, p.bouncer.process)
	}
	return all
}

func (p *plant) replicas() (all []*replica) {
	for _, kind := range services {
		all = append(all, p.services[kind]...)
	}
	return all
}

// connect opens our own ways to the servers, when they answer.
func (p *plant) connect(ctx context.Context) error {
	cfg := stream.DefaultConfig()
	cfg.URL, cfg.MonitorURL, cfg.Profile, cfg.EventsMaxBytes = p.cluster.url(), p.cluster.monitorURL(), stream.Cluster, eventBytes
	cfg.RetryMaxBytes, cfg.DeadMaxBytes = retryBytes, deadBytes
	err := until(ctx, func(ctx context.Context) error {
		conn, err := stream.Connect(ctx, stream.Options{Config: cfg, Name: "chaos"})
		if err != nil {
			return err
		}
		if err := conn.EnsureTopology(ctx); err != nil {
			conn.Close()
			return err
		}
		p.conn = conn
		return nil
	})
	if err != nil {
		return fmt.Errorf("the brokers: %w", err)
	}
	if err := p.cache.assemble(ctx); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	err = until(ctx, func(ctx context.Context) (err error) {
		p.state, err = state.Open(ctx, state.Options{Config: p.cache.config()})
		return err
	})
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	p.cache.store = p.state
	if err := p.database.ready(ctx); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	p.oauth, err = qbo.NewOAuth(qbo.OAuthOptions{
		ClientID: clientID, ClientSecret: clientSecret, RedirectURL: redirectURL,
		AuthorizeURL: p.books.url + "/connect/oauth2", TokenURL: p.books.url + "/oauth2/v1/tokens/bearer", RevokeURL: p.books.url + "/v2/oauth2/tokens/revoke",
	})
	if err != nil {
		return err
	}
	p.connections, err = connection.New(connection.Options{
		State: p.state, Config: connection.Config{Keys: []secret.String{connectionKey}}, Refresher: p.oauth,
	})
	return err
}

func (p *plant) makeRealms(ctx context.Context, n int, seed uint64) error {
	for i := range n + 1 {
		realm := fmt.Sprintf("9341%06d%06d", seed%1_000_000, i+1)
		if err := p.books.found(realm); err != nil {
			return err
		}
		if err := p.consent(ctx, realm); err != nil {
			return err
		}
		p.realms = append(p.realms, realm)
	}
	p.quiet = p.realms[n]
	return nil
}

// consent is what a person does who connects a company.
func (p *plant) consent(ctx context.Context, realm string) error {
	token, err := p.oauth.Exchange(ctx, p.books.Authorize(realm), "")
	if err != nil {
		return fmt.Errorf("connect realm %s: %w", realm, err)
	}
	if err := p.connections.Connect(ctx, realm, app, token); err != nil {
		return err
	}
	p.consents.Store(realm, time.Now())
	return nil
}

// connectedAfter reports whether a company was connected after at, by a person or by a
// token that was good after all: what was acknowledged for it may have been left to its
// next scan.
func (p *plant) connectedAfter(ctx context.Context, realm string, at time.Time) bool {
	if last, ok := p.consents.Load(realm); ok && last.(time.Time).After(at) {
		return true
	}
	c, err := p.connections.Get(ctx, realm)
	return err == nil && c.State == connection.Live && c.ChangedAt.After(at)
}

func (p *plant) link(ctx context.Context, r *replica, to, target string) (*faultproxy.Proxy, error) {
	var tap func() faultproxy.Tap
	if to == "broker" && r.kind == "ingress" {
		tap = p.acks.tap
	}
	link, err := faultproxy.Start(ctx, target, tap)
	if err != nil {
		return nil, err
	}
	r.links[to] = append(r.links[to], link)
	p.links[to] = append(p.links[to], link)
	return link, nil
}

// ready waits until all replicas say that they are.
func (p *plant) ready(ctx context.Context) error {
	client := &http.Client{Timeout: 2 * time.Second}
	defer client.CloseIdleConnections()
	for _, r := range p.replicas() {
		err := until(ctx, func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.admin+"/readyz", nil)
			if err != nil {
				return err
			}
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			said, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("%s: %s", resp.Status, said)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("%s is not ready: %w\n%s", r.name, err, tail(r.log))
		}
	}
	return nil
}

// tail is the end of a log, for a person.
func tail(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-2000):])
}

// drain ends the services as an operator would, and names those that did not end
// well in time.
func (p *plant) drain() (bad []string) {
	var mu sync.Mutex // guards bad
	var g errgroup.Group
	for _, r := range p.replicas() {
		g.Go(func() error {
			inTime := r.stop(syscall.SIGTERM, drainWait)
			if !inTime || !r.endedWell() {
				mu.Lock()
				defer mu.Unlock()
				bad = append(bad, r.name)
			}
			return nil
		})
	}
	_ = g.Wait()
	slices.Sort(bad)
	return bad
}

// close ends what is left.
func (p *plant) close() error {
	var errs []error
	for _, r := range p.replicas() {
		r.stop(syscall.SIGKILL, killWait)
		for _, links := range r.links {
			for _, l := range links {
				l.Close()
			}
		}
	}
	if p.front != nil {
		errs = append(errs, p.front.close())
	}
	if p.conn != nil {
		p.conn.Close()
	}
	if p.state != nil {
		errs = append(errs, p.state.Close())
	}
	if p.database != nil {
		p.database.pool.Close()
	}
	for _, s := range p.servers() {
		s.stop(syscall.SIGKILL, killWait)
	}
	if p.bouncer != nil {
		p.bouncer.behind.Close()
	}
	if p.cluster != nil {
		p.cluster.close()
	}
	if p.books != nil {
		errs = append(errs, p.books.close())
	}
	if p.endpoint != nil {
		errs = append(errs, p.endpoint.close())
	}
	for _, j := range p.journals {
		j.close()
	}
	return errors.Join(errs...)
}
