package processor_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/webhook"
)

var outage = flag.Duration("outage", 3*time.Second, "how long each dependency is away in TestOutage")

// setting is a processor with real servers behind gates, under load.
type setting struct {
	*bundle
	p                              running
	nats, redis, api, pg, endpoint *gate
	table                          *postgres.Sink
	received                       *endpoint
}

// I11: whatever the processor stands on goes away for a while under load, and comes
// back: nothing is lost, nobody has to do anything, and memory stays bounded.
func TestOutage(t *testing.T) {
	for name, gates := range map[string]func(*setting) []*gate{
		"NATS":       func(s *setting) []*gate { return []*gate{s.nats} },
		"Redis":      func(s *setting) []*gate { return []*gate{s.redis} },
		"QuickBooks": func(s *setting) []*gate { return []*gate{s.api} },
		"PostgreSQL": func(s *setting) []*gate { return []*gate{s.pg} },
		"endpoint":   func(s *setting) []*gate { return []*gate{s.endpoint} },
		"all":        func(s *setting) []*gate { return []*gate{s.nats, s.redis, s.api, s.pg, s.endpoint} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSetting(t)
			load := s.load()
			require.Eventually(t, func() bool { return s.received.count() > 20 }, patient, time.Millisecond, "it works before")
			calls, before := s.calls(), heap()
			for _, g := range gates(s) {
				g.close()
			}
			away := time.Now()
			require.Eventually(t, func() bool { return time.Since(away) > *outage }, *outage+patient, 10*time.Millisecond)
			if name == "Redis" {
				// One call may have been under way.
				require.LessOrEqual(t, s.calls(), calls+s.config.Parallel, "no call without the limiter")
			}
			// The servers and the books, which grow, are in this process too; TestSoak
			// has the processor in one of its own.
			books := uint64(outage.Seconds()) * 256 << 10
			require.Less(t, heap(), before+64<<20+books, "bounded memory")
			for _, g := range gates(s) {
				g.open(t)
			}
			load.stop()
			require.Eventually(t, func() bool {
				idle, err := s.p.Idle(t.Context())
				return err == nil && idle
			}, patient+2**outage, 10*time.Millisecond, "what waited is delivered without anybody's doing")
			s.requireBooks()
		})
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func newSetting(t *testing.T) *setting {
	t.Helper()
	s := &setting{bundle: setup(t), received: &endpoint{newest: map[string]string{}}}
	s.nats, s.redis = newGate(t, hostOf(t, s.natsURL)), newGate(t, hostOf(t, s.redisURL))
	s.api = newGate(t, hostOf(t, s.bundle.api.URL))
	database := devtest.Postgres(t)
	s.pg = newGate(t, hostOf(t, database))
	server := httptest.NewServer(s.received)
	t.Cleanup(server.Close)
	s.endpoint = newGate(t, hostOf(t, server.URL))

	var err error
	s.table, err = postgres.Open(t.Context(), postgres.Options{URL: secret.String(strings.Replace(database, hostOf(t, database), s.pg.address, 1))})
	require.NoError(t, err)
	t.Cleanup(func() { s.table.Close() })
	hook, err := webhook.Open(webhook.Options{
		URL: "http://" + s.endpoint.address, Secrets: []secret.String{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, Batch: 50,
		Timeout: 2 * time.Second, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	require.NoError(t, err)
	t.Cleanup(func() { hook.Close() })

	store := s.openState("redis://" + s.redis.address + "/0")
	connections := s.openConnections(store)
	client, err := qbo.New(qbo.Options{BaseURL: "http://" + s.api.address, Tokens: connections, Limiter: store.Limiter(state.LimitConfig{
		PerMinute: 1e6, Burst: 1000, PerSecond: 1e6, Concurrency: 100,
	})})
	require.NoError(t, err)
	s.config.WriteTimeout, s.config.ReadTimeout = 2*time.Second, 5*time.Second
	o := s.options()
	o.Stream, o.State, o.Connections, o.QBO = s.dial("nats://"+s.nats.address), store, connections, client
	o.Sinks = []processor.Sink{s.table, hook}
	s.p = s.run(o)
	return s
}

// load changes the books and passes on what QuickBooks tells of, as Intuit does:
// again until it is taken.
type load struct {
	stop func()
}

func (s *setting) load() *load {
	s.t.Helper()
	done, ended := make(chan struct{}), make(chan struct{})
	l := &load{stop: sync.OnceFunc(func() { close(done); <-ended })}
	s.t.Cleanup(l.stop)
	go func() {
		defer close(ended)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			s.clock.Advance(20 * time.Millisecond)
			if _, err := s.sim.Step(realm); err != nil {
				s.t.Errorf("step: %v", err)
				return
			}
			if err := s.sim.FlushWebhooks(context.Background()); err != nil {
				s.t.Errorf("webhooks: %v", err)
				return
			}
			if envs := s.hooks.take(); len(envs) > 0 {
				if err := s.conn.Publish(context.Background(), envs...); err != nil {
					s.t.Errorf("publish: %v", err)
					return
				}
			}
		}
	}()
	return l
}

// requireBooks compares the table, and what the endpoint was told, with QuickBooks.
func (s *setting) requireBooks() {
	s.t.Helper()
	want, table := map[string]string{}, map[string]string{}
	for ref, truth := range s.sim.Truth(realm) {
		want[ref.Entity+"/"+ref.ID] = shown(ref.Entity, truth.Version, truth.Deleted)
	}
	held, err := s.table.Snapshot(s.t.Context())
	require.NoError(s.t, err)
	for ref, row := range held {
		table[ref.Entity+"/"+ref.ID] = shown(ref.Entity, row.Version, row.Deleted)
	}
	require.Empty(s.t, cmp.Diff(want, table), "the table differs from QuickBooks")
	got := map[string]string{}
	for key, held := range s.received.all() {
		name, _, _ := strings.Cut(key, "/")
		got[key] = shown(name, versionIn(held), strings.HasSuffix(held, "true"))
	}
	require.Empty(s.t, cmp.Diff(want, got), "what the endpoint was told differs from QuickBooks")
	require.Empty(s.t, s.dead())
}

// shown leaves out when a record went that CDC says nothing of: that nobody knows
// exactly (ADR 3).
func shown(name string, version int64, deleted bool) string {
	if info, _ := entity.Lookup(name); deleted && !info.CDC {
		return "deleted"
	}
	return fmt.Sprintf("%d %t", version, deleted)
}

// endpoint keeps the newest version of each record that it was told of.
type endpoint struct {
	mu     sync.Mutex
	newest map[string]string
	taken  int
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // cut off: it comes again
	}
	events, err := decodeEvents(body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range events {
		e.taken++
		key, value := ev.Entity+"/"+ev.EntityID, fmt.Sprintf("%s %t", ev.Version, ev.Deleted)
		if held, ok := e.newest[key]; !ok || versionIn(held) <= versionIn(value) {
			e.newest[key] = value
		}
	}
}

func (e *endpoint) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.taken
}

func (e *endpoint) all() map[string]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := map[string]string{}
	for k, v := range e.newest {
		all[k] = v
	}
	return all
}

// told is a CloudEvent of the webhook sink.
type told struct {
	Entity   string `json:"entity"`
	EntityID string `json:"entityid"`
	Version  string `json:"entityversion"`
	Deleted  bool   `json:"deleted"`
}

func decodeEvents(body []byte) (events []told, err error) {
	err = json.Unmarshal(body, &events)
	return events, err
}

func versionIn(text string) int64 {
	version, _, _ := strings.Cut(text, " ")
	n, err := strconv.ParseInt(version, 10, 64)
	if err != nil {
		return -1
	}
	return n
}
