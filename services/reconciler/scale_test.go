package reconciler_test

import (
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

// The long forms: make scale.
var scaleRealms = flag.Int("scale.realms", 640, "how many realms the scale tests connect; 10000 and more take the service's own settings")

func long() bool { return *scaleRealms >= 10000 }

// fleet is many quiet realms, in a real Redis, before a QuickBooks that answers at once
// that nothing has changed.
type fleet struct {
	t           testing.TB
	store       *state.Store
	connections *connection.Store
	redisURL    string
	natsURL     string
	realms      []string

	mu      sync.Mutex
	scanned map[string]int // by realm, since forget
	by      map[string]int // by the address that was asked, since forget
	queries int            // counts of entities that are not in use
	stall   map[string]bool
}

func newFleet(t testing.TB, n int) *fleet {
	t.Helper()
	f := &fleet{t: t, redisURL: devtest.RealRedis(t), natsURL: devtest.NATS(t), stall: map[string]bool{}}
	f.forget()
	var err error
	f.store, err = state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(f.redisURL)}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.store.Close()) })
	key := secret.String("test:" + base64.StdEncoding.EncodeToString(make([]byte, 32)))
	f.connections, err = connection.New(connection.Options{
		State: f.store, Config: connection.Config{Keys: []secret.String{key}}, Refresher: noRefresh{},
	})
	require.NoError(t, err)
	_, err = f.store.RegisterSinks(t.Context(), []string{"ledger"})
	require.NoError(t, err)
	memory, err := f.store.Memory(t.Context())
	require.NoError(t, err)
	require.NoError(t, f.store.Remembered(t.Context(), memory))
	f.connect(n)
	return f
}

type noRefresh struct{}

func (noRefresh) Refresh(context.Context, secret.String) (qbo.Token, error) {
	return qbo.Token{}, fmt.Errorf("nobody refreshes here")
}

// connect makes realms, as many in each shard, that were scanned a day ago.
func (f *fleet) connect(n int) {
	f.t.Helper()
	left := make([]int, state.Shards)
	for i := range left {
		left[i] = (n + state.Shards - 1) / state.Shards
	}
	for id := 9130347700000000; len(f.realms) < n; id++ {
		realm := strconv.Itoa(id)
		if shard := state.Shard(realm); left[shard] > 0 {
			left[shard]--
			f.realms = append(f.realms, realm)
		}
	}
	f.each(func(ctx context.Context, realm string) error {
		now := time.Now()
		// As long as Intuit's are.
		token := qbo.Token{
			Access: secret.String(strings.Repeat("a", 900)), Refresh: secret.String(strings.Repeat("r", 50)),
			AccessExpires: now.Add(24 * time.Hour), RefreshExpires: now.Add(100 * 24 * time.Hour), RefreshHardExpires: now.Add(5 * 365 * 24 * time.Hour),
		}
		if err := f.connections.Connect(ctx, realm, "app", token); err != nil {
			return err
		}
		return f.quiet(ctx, realm)
	})
}

// quiet is what Redis holds of a realm that is scanned daily.
func (f *fleet) quiet(ctx context.Context, realm string) error {
	cursors := map[string]time.Time{}
	for _, name := range reconciler.DefaultReconcilerConfig().CDCEntities {
		cursors[name] = time.Now().Add(-24 * time.Hour)
	}
	for _, name := range reconciler.DefaultReconcilerConfig().QueryEntities {
		cursors[name] = time.Now().Add(-24 * time.Hour)
	}
	if err := f.store.AdvanceCursors(ctx, realm, cursors); err != nil {
		return err
	}
	// As if it were connected and loaded just now: the connection is younger than a day.
	now := time.Now().Add(2 * time.Second)
	if err := f.store.SetPace(ctx, realm, state.Pace{Scanned: now, Full: now, Changed: now, PerDay: 20}); err != nil {
		return err
	}
	return f.store.Schedule(ctx, realm, time.Now().Add(24*time.Hour))
}

func (f *fleet) each(do func(ctx context.Context, realm string) error) {
	f.t.Helper()
	var g errgroup.Group
	g.SetLimit(16)
	for _, realm := range f.realms {
		g.Go(func() error { return do(f.t.Context(), realm) })
	}
	require.NoError(f.t, g.Wait())
}

func (f *fleet) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.scanned, f.by = map[string]int{}, map[string]int{}
}

// quickbooks serves one replica.
func (f *fleet) quickbooks(name string) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/query") { // a count of what the realm does not use
			f.mu.Lock()
			f.queries++
			f.mu.Unlock()
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"QueryResponse":{"totalCount":0},"time":"`+time.Now().UTC().Format(time.RFC3339)+`"}`)
			return
		}
		f.mu.Lock()
		stall := f.stall[name]
		if !stall {
			f.scanned[strings.Split(r.URL.Path, "/")[3]]++
			f.by[name]++
		}
		f.mu.Unlock()
		if stall {
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"CDCResponse":[{"QueryResponse":[{}]}],"time":"`+time.Now().UTC().Format(time.RFC3339)+`"}`)
	}))
	f.t.Cleanup(server.Close)
	return server.URL
}

func (f *fleet) count() (realms int, by map[string]int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	by = map[string]int{}
	for name, n := range f.by {
		by[name] = n
	}
	return len(f.scanned), by
}

// dueNow makes all realms due.
func (f *fleet) dueNow() {
	f.t.Helper()
	f.forget()
	f.each(func(ctx context.Context, realm string) error { return f.store.Schedule(ctx, realm, time.Now()) })
}

// allScanned waits until each realm was scanned.
func (f *fleet) allScanned(most time.Duration) {
	f.t.Helper()
	require.Eventually(f.t, func() bool { n, _ := f.count(); return n == len(f.realms) }, most, 5*time.Millisecond)
}

// replica is the service in a process of its own.
type replica struct {
	cmd *exec.Cmd
	log string
}

func (f *fleet) start(name string, environ ...string) *replica {
	f.t.Helper()
	binary, err := os.Executable()
	require.NoError(f.t, err)
	r := &replica{cmd: exec.Command(binary), log: filepath.Join(f.t.TempDir(), name)}
	out, err := os.Create(r.log)
	require.NoError(f.t, err)
	defer out.Close()
	r.cmd.Stderr = out
	r.cmd.Env = append([]string{
		childEnv + "=1", "LEDGERFEED_ADMIN_LISTEN=127.0.0.1:0", "LEDGERFEED_LOG_LEVEL=warn",
		"LEDGERFEED_CONNECTION_KEYS=test:" + base64.StdEncoding.EncodeToString(make([]byte, 32)),
		"LEDGERFEED_NATS_PROFILE=dev", "LEDGERFEED_NATS_URL=" + f.natsURL, "LEDGERFEED_REDIS_URL=" + f.redisURL,
		"LEDGERFEED_QBO_BASE_URL=" + f.quickbooks(name), "LEDGERFEED_QBO_CLIENT_ID=app", "LEDGERFEED_QBO_CLIENT_SECRET=hush",
	}, environ...)
	require.NoError(f.t, r.cmd.Start())
	// Whatever ends this process closes the pipe, and the shell ends the replica.
	watchdog := exec.Command("/bin/sh", "-c", `read -r line; kill -9 "$1" 2>/dev/null`, "sh", strconv.Itoa(r.cmd.Process.Pid))
	leash, err := watchdog.StdinPipe()
	require.NoError(f.t, err)
	require.NoError(f.t, watchdog.Start())
	f.t.Cleanup(func() {
		if f.t.Failed() {
			text, _ := os.ReadFile(r.log)
			f.t.Log(name, string(text))
		}
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		leash.Close()
		_ = watchdog.Wait()
	})
	return r
}

func (f *fleet) replicas(n int, most time.Duration) {
	f.t.Helper()
	require.Eventually(f.t, func() bool {
		ids, err := f.store.Replicas(f.t.Context(), "reconciler")
		return err == nil && len(ids) == n
	}, most, 20*time.Millisecond)
}

// Three replicas share the work evenly, and when one is killed in the middle of its
// scans the others do its share soon.
func TestScale_SpreadAndTakeover(t *testing.T) {
	t.Parallel()
	f := newFleet(t, *scaleRealms)
	environ := []string{"LEDGERFEED_RECONCILER_POLL_INTERVAL=100ms", "LEDGERFEED_RECONCILER_LEASE_TTL=3s", "LEDGERFEED_RECONCILER_REFRESH_COMPANY=0s"}
	if long() {
		environ = nil
	}
	names := []string{"a", "b", "c"}
	var all []*replica
	for _, name := range names {
		all = append(all, f.start(name, environ...))
	}
	f.replicas(3, patient)
	// Each has heard of the others by then.
	<-time.After(3 * time.Second)
	f.dueNow()
	f.allScanned(5 * time.Minute)
	n, by := f.count()
	t.Logf("%d realms by replica: %v", n, by)
	for _, name := range names {
		require.InEpsilon(t, float64(n)/3, float64(by[name]), 0.10, name)
	}

	f.mu.Lock()
	f.stall["a"] = true // its scans are under way when it dies
	f.mu.Unlock()
	f.dueNow()
	require.Eventually(t, func() bool { n, _ := f.count(); return n >= len(f.realms)/2 }, 5*time.Minute, 5*time.Millisecond)
	require.NoError(t, all[0].cmd.Process.Signal(syscall.SIGKILL))
	killed := time.Now()
	f.allScanned(5 * time.Minute)
	took := time.Since(killed)
	t.Logf("all %d realms scanned %s after the kill", len(f.realms), took.Round(10*time.Millisecond))
	require.Less(t, took, 20*time.Second)
}

// What Redis holds of a realm.
func TestScale_RedisBytesARealm(t *testing.T) {
	t.Parallel()
	store, connections := scaleStores(t)
	base := usedMemory(t, store)
	n := *scaleRealms
	realm := func(i int) string { return strconv.Itoa(9130347700000000 + i*7919) }
	names := entity.CDC()
	names = append(names, entity.QueryOnly()...)
	names = names[:min(len(names), 28)]
	require.Len(t, names, 28)
	step := func(do func(ctx context.Context, realm string) error) {
		t.Helper()
		var g errgroup.Group
		g.SetLimit(16)
		for i := range n {
			g.Go(func() error { return do(t.Context(), realm(i)) })
		}
		require.NoError(t, g.Wait())
	}
	now := time.Now()
	step(func(ctx context.Context, realm string) error {
		cursors := map[string]time.Time{}
		for i, name := range names {
			cursors[name] = now.Add(-time.Duration(i) * time.Second)
		}
		if err := store.AdvanceCursors(ctx, realm, cursors); err != nil {
			return err
		}
		if err := store.SetPace(ctx, realm, state.Pace{Scanned: now, Full: now, Changed: now, PerDay: 250}); err != nil {
			return err
		}
		return store.Schedule(ctx, realm, now)
	})
	schedule := usedMemory(t, store)
	step(func(ctx context.Context, realm string) error {
		return connections.Connect(ctx, realm, "main", qbo.Token{
			Access: secret.String(strings.Repeat("a", 900)), Refresh: secret.String(strings.Repeat("r", 50)),
			AccessExpires: now.Add(time.Hour), RefreshExpires: now.Add(100 * 24 * time.Hour), RefreshHardExpires: now.Add(5 * 365 * 24 * time.Hour),
		})
	})
	tokens := usedMemory(t, store)
	// Webhooks of a dozen kinds of records, created, changed and deleted.
	heard := store.Sightings(nil)
	step(func(ctx context.Context, realm string) error {
		for _, name := range names[:12] {
			for _, operation := range []string{"create", "update", "delete"} {
				heard.Note(realm, state.Webhook{Kind: state.Kind{Entity: name, Operation: operation}, ID: "1", Event: now, Received: now, First: true})
			}
		}
		return nil
	})
	require.NoError(t, heard.Flush(t.Context()))
	sightings := usedMemory(t, store)
	per := func(to, from int64) float64 { return float64(to-from) / float64(n) }
	t.Logf("%d realms: %.0f bytes a realm for 28 cursors and the schedule, %.0f for the connection, %.0f for the last webhooks of 12 entities; %.0f in all",
		n, per(schedule, base), per(tokens, schedule), per(sightings, tokens), per(sightings, base))
	once := 0.0 // scripts, and the buffers of the connections
	if !long() {
		once = 1 << 20 / float64(n)
	}
	require.LessOrEqual(t, per(schedule, base), 1536+once)
	require.LessOrEqual(t, per(tokens, base), 4096+once)
}

func scaleStores(t testing.TB) (*state.Store, *connection.Store) {
	t.Helper()
	store, err := state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(devtest.RealRedis(t))}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	key := secret.String("test:" + base64.StdEncoding.EncodeToString(make([]byte, 32)))
	connections, err := connection.New(connection.Options{State: store, Config: connection.Config{Keys: []secret.String{key}}, Refresher: noRefresh{}})
	require.NoError(t, err)
	return store, connections
}

func usedMemory(t testing.TB, store *state.Store) int64 {
	t.Helper()
	info, err := store.Redis().InfoMap(t.Context(), "memory").Result()
	require.NoError(t, err)
	n, err := strconv.ParseInt(info["Memory"]["used_memory_dataset"], 10, 64)
	require.NoError(t, err)
	overhead, err := strconv.ParseInt(info["Memory"]["used_memory_overhead"], 10, 64)
	require.NoError(t, err)
	startup, err := strconv.ParseInt(info["Memory"]["used_memory_startup"], 10, 64)
	require.NoError(t, err)
	return n + overhead - startup
}

// A scan of a quiet realm from the schedule to its cursors, before a QuickBooks that
// answers at once; its server runs in this process. scans/s is by the clock,
// scans/cpu-s by the processor time of this process.
func BenchmarkReconciler_QuietScans(b *testing.B) {
	f := newFleet(b, max(640, *scaleRealms))
	cfg := stream.DefaultConfig()
	cfg.URL, cfg.Profile = f.natsURL, "dev"
	conn, err := stream.Connect(b.Context(), stream.Options{Config: cfg, Name: "bench"})
	require.NoError(b, err)
	defer conn.Close()
	require.NoError(b, conn.EnsureTopology(b.Context()))
	client, err := qbo.New(qbo.Options{BaseURL: f.quickbooks("bench"), Tokens: f.connections, Limiter: f.store.Limiter(state.DefaultLimits())})
	require.NoError(b, err)
	config := reconciler.DefaultReconcilerConfig()
	config.RefreshCompany = 0 // a call a week would be in every count
	config.Realms = 16
	r, err := reconciler.New(reconciler.Options{Config: config, Stream: conn, State: f.store, QBO: client, Connections: f.connections, Logger: zap.NewNop()})
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = r.Run(ctx) })
	defer running.Wait()
	defer cancel()
	f.replicas(1, patient)

	var scans atomic.Int64
	began, cpu := time.Now(), cpuTime()
	for b.Loop() {
		f.dueNow()
		f.allScanned(5 * time.Minute)
		scans.Add(int64(len(f.realms)))
	}
	b.ReportMetric(float64(scans.Load())/time.Since(began).Seconds(), "scans/s")
	b.ReportMetric(float64(scans.Load())/(cpuTime()-cpu).Seconds(), "scans/cpu-s")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
