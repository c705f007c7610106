package reconciler_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

var scaleRecords = flag.Int("scale.records", 50_000, "how many records the realm of TestScale_MemoryOfALargeRealm has")

// memoryLimit is that of deploy/k8s/base/reconciler.yaml.
const memoryLimit = 256 << 20

// large is a QuickBooks with one realm of n invoices, ten a second. It makes each answer
// when it is asked, so that it costs no memory itself.
type large struct {
	n       int
	padding func(i int) int // bytes of a document beyond the least
	gone    func(i int) bool

	mu    sync.Mutex // guards what follows
	ahead time.Duration
	lost  bool // those of gone are deleted
	rows  int  // served
	calls int
}

var (
	largeBase  = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	fromBound  = regexp.MustCompile(`LastUpdatedTime >= '([^']+)'`)
	toBound    = regexp.MustCompile(`LastUpdatedTime < '([^']+)'`)
	pageBounds = regexp.MustCompile(`STARTPOSITION (\d+) MAXRESULTS (\d+)`)
	quotedIDs  = regexp.MustCompile(`'(\d+)'`)
	filler     = strings.Repeat("A line of an invoice. ", 100_000)
)

const tenth = time.Second / 10

func updated(i int) time.Time { return largeBase.Add(time.Duration(i) * tenth).Truncate(time.Second) }

// index is the first record that was last updated at a time or later.
func (l *large) index(query string, bound *regexp.Regexp, none int) int {
	m := bound.FindStringSubmatch(query)
	if m == nil {
		return none
	}
	at, err := time.Parse(time.RFC3339, m[1])
	if err != nil {
		return none
	}
	return min(max(int(at.Sub(largeBase)/tenth), 0), l.n)
}

func (l *large) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	l.calls++
	lost, now := l.lost, time.Now().Add(l.ahead).UTC().Format(time.RFC3339)
	l.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	out := bufio.NewWriterSize(w, 1<<16)
	defer out.Flush()
	query := r.URL.Query().Get("query")
	if r.Method == http.MethodPost {
		body, _ := io.ReadAll(r.Body)
		query = string(body)
	}
	exists := func(i int) bool { return i < l.n && (!lost || !l.gone(i)) }
	from, to := l.index(query, fromBound, 0), l.index(query, toBound, l.n)
	switch {
	case strings.HasSuffix(r.URL.Path, "/cdc"):
		fmt.Fprintf(out, `{"CDCResponse":[{"QueryResponse":[{}]}],"time":%q}`, now)
	case strings.HasPrefix(query, "SELECT COUNT(*)") && strings.Contains(query, "Active"):
		w.WriteHeader(http.StatusBadRequest)
		_, _ = out.WriteString(`{"Fault":{"Error":[{"Message":"QueryValidationError","code":"4001"}],"type":"ValidationFault"}}`)
	case strings.HasPrefix(query, "SELECT COUNT(*)"):
		n := 0
		for i := from; i < to; i++ {
			if exists(i) {
				n++
			}
		}
		fmt.Fprintf(out, `{"QueryResponse":{"totalCount":%d},"time":%q}`, n, now)
	case strings.Contains(query, "Id IN"):
		var named []int
		for _, m := range quotedIDs.FindAllStringSubmatch(query, -1) {
			if i, _ := strconv.Atoi(m[1]); exists(i) {
				named = append(named, i)
			}
		}
		l.page(out, named, now)
	default:
		m := pageBounds.FindStringSubmatch(query)
		start, _ := strconv.Atoi(m[1])
		most, _ := strconv.Atoi(m[2])
		var named []int
		for i := from; i < to && len(named) < start-1+most; i++ {
			if exists(i) {
				named = append(named, i)
			}
		}
		named = named[min(start-1, len(named)):]
		l.mu.Lock()
		l.rows += len(named)
		l.mu.Unlock()
		l.page(out, named, now)
	}
}

func (l *large) page(out *bufio.Writer, named []int, now string) {
	_, _ = out.WriteString(`{"QueryResponse":{`)
	for at, i := range named {
		if at == 0 {
			_, _ = out.WriteString(`"Invoice":[`)
		} else {
			_ = out.WriteByte(',')
		}
		fmt.Fprintf(out, `{"Id":"%d","SyncToken":"0","MetaData":{"LastUpdatedTime":%q},"DocNumber":"%d","PrivateNote":"`, i, updated(i).Format(time.RFC3339), i)
		_, _ = out.WriteString(filler[:l.padding(i)])
		_, _ = out.WriteString(`"}`)
		if at == len(named)-1 {
			_ = out.WriteByte(']')
		}
	}
	fmt.Fprintf(out, `},"time":%q}`, now)
}

func (l *large) served() (rows, calls int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rows, l.calls
}

func (l *large) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

const largeChild = "large"

// serveLarge is a reconciler without the limits of the API, in a process of its own.
func serveLarge() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	store, err := state.Open(ctx, state.Options{Config: state.Config{URL: secret.String(os.Getenv("LARGE_REDIS"))}})
	if err != nil {
		return err
	}
	cfg := stream.DefaultConfig()
	cfg.URL, cfg.Profile = os.Getenv("LARGE_NATS"), "dev"
	conn, err := stream.Connect(ctx, stream.Options{Config: cfg, Name: "large"})
	if err != nil {
		return err
	}
	connections, err := connection.New(connection.Options{State: store, Config: connection.Config{Keys: []secret.String{largeKey()}}, Refresher: noRefresh{}})
	if err != nil {
		return err
	}
	client, err := qbo.New(qbo.Options{BaseURL: os.Getenv("LARGE_API"), Tokens: connections})
	if err != nil {
		return err
	}
	config := reconciler.DefaultReconcilerConfig()
	config.RefreshCompany = 0 // a call a week would be in every count
	config.CDCEntities, config.QueryEntities = []string{"Invoice"}, nil
	config.StartJitter, config.OutageGap, config.RetryInterval = 0, never, time.Second
	config.PollInterval, config.LeaseTTL, config.VerifyEvery = 50*time.Millisecond, 2*time.Second, 200*time.Millisecond
	r, err := reconciler.New(reconciler.Options{Config: config, Stream: conn, State: store, QBO: client, Connections: connections})
	if err != nil {
		return err
	}
	return r.Run(ctx)
}

func largeKey() secret.String {
	return secret.String("test:" + base64.StdEncoding.EncodeToString(make([]byte, 32)))
}

// largeRun is a large realm, and the reconcilers that read it one after the other.
type largeRun struct {
	t                    testing.TB
	l                    *large
	store                *state.Store
	environ              []string
	child                *exec.Cmd
	peak                 int64 // of the resident memory of any child
	delivered, tombstone atomic.Int64
}

func newLargeRun(t testing.TB, l *large) *largeRun {
	t.Helper()
	ctx := t.Context()
	redisURL, natsURL := devtest.RealRedis(t), devtest.NATS(t)
	api := httptest.NewServer(l)
	t.Cleanup(api.Close)
	g := &largeRun{t: t, l: l, environ: []string{
		childEnv + "=" + largeChild, "GOMEMLIMIT=220MiB", "LARGE_REDIS=" + redisURL, "LARGE_NATS=" + natsURL, "LARGE_API=" + api.URL,
	}}
	var err error
	g.store, err = state.Open(ctx, state.Options{Config: state.Config{URL: secret.String(redisURL)}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, g.store.Close()) })
	connections, err := connection.New(connection.Options{State: g.store, Config: connection.Config{Keys: []secret.String{largeKey()}}, Refresher: noRefresh{}})
	require.NoError(t, err)
	now := time.Now()
	require.NoError(t, connections.Connect(ctx, realm, "app", qbo.Token{
		Access: "a", Refresh: "r", AccessExpires: now.Add(24 * time.Hour), RefreshExpires: now.Add(100 * 24 * time.Hour), RefreshHardExpires: now.Add(5 * 365 * 24 * time.Hour),
	}))
	_, err = g.store.RegisterSinks(ctx, []string{"ledger"})
	require.NoError(t, err)
	memory, err := g.store.Memory(ctx)
	require.NoError(t, err)
	require.NoError(t, g.store.Remembered(ctx, memory))
	g.deliver(natsURL)
	return g
}

// deliver is a processor that writes nowhere: it marks what comes.
func (g *largeRun) deliver(natsURL string) {
	g.t.Helper()
	cfg := stream.DefaultConfig()
	cfg.URL, cfg.Profile = natsURL, "dev"
	conn, err := stream.Connect(g.t.Context(), stream.Options{Config: cfg, Name: "sink"})
	require.NoError(g.t, err)
	require.NoError(g.t, conn.EnsureTopology(g.t.Context()))
	ctx, cancel := context.WithCancel(context.WithoutCancel(g.t.Context()))
	var consuming sync.WaitGroup
	consuming.Go(func() {
		_ = conn.Consume(ctx, stream.ConsumeOptions{Queue: stream.Events, Durable: "sink", AckWait: 30 * time.Second, MaxAckPending: 256}, func(m *stream.Message) {
			env, err := m.Envelope()
			if err != nil {
				g.t.Errorf("envelope: %v", err)
				return
			}
			var as []state.Advance
			for _, e := range env.GetEvents() {
				as = append(as, state.Advance{Ref: state.Ref{Entity: e.GetEntity(), ID: e.GetEntityId()}, Version: e.GetVersion()})
				if qbo.IsTombstone(e.GetVersion()) {
					g.tombstone.Add(1)
				}
			}
			if g.store.Advance(ctx, realm, "ledger", as) == nil {
				g.delivered.Add(int64(len(as)))
				_ = m.Ack(ctx)
			}
		})
	})
	g.t.Cleanup(func() {
		cancel()
		consuming.Wait()
		conn.Close()
	})
}

func (g *largeRun) start() {
	g.t.Helper()
	binary, err := os.Executable()
	require.NoError(g.t, err)
	g.child = exec.Command(binary)
	g.child.Env, g.child.Stderr = g.environ, os.Stderr
	require.NoError(g.t, g.child.Start())
	child := g.child
	g.t.Cleanup(func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	})
}

// kill ends the reconciler without a word, after its peak was noted.
func (g *largeRun) kill() {
	g.t.Helper()
	g.measure()
	require.NoError(g.t, g.child.Process.Signal(syscall.SIGKILL))
	_ = g.child.Wait()
}

// measure notes the peak of the resident memory.
func (g *largeRun) measure() {
	g.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.child.Process.Pid))
	require.NoError(g.t, err)
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	require.NotNil(g.t, m)
	kib, err := strconv.ParseInt(string(m[1]), 10, 64)
	require.NoError(g.t, err)
	g.peak = max(g.peak, kib<<10)
}

const largePatience = 40 * time.Minute

func (g *largeRun) until(what string, done func() bool) {
	g.t.Helper()
	require.Eventually(g.t, done, largePatience, 20*time.Millisecond, what)
}

func (g *largeRun) due() {
	g.t.Helper()
	require.NoError(g.t, g.store.Schedule(g.t.Context(), realm, time.Now()))
}

func (g *largeRun) loaded() bool {
	cursors, err := g.store.Cursors(g.t.Context(), realm)
	return err == nil && !cursors["Invoice"].IsZero()
}

func (g *largeRun) reported(what string, began time.Time) {
	g.t.Helper()
	rows, calls := g.l.served()
	g.t.Logf("%s: %d records, %s, %d rows and %d calls so far, peak resident memory %d MiB",
		what, g.l.n, time.Since(began).Round(100*time.Millisecond), rows, calls, g.peak>>20)
	if !raceDetector {
		require.Less(g.t, g.peak, int64(memoryLimit), "the limit of the container")
	}
}

// A load and a sweep of a large realm fit into the memory of the container, and go on
// where they were when the process is killed in the middle.
func TestScale_MemoryOfALargeRealm(t *testing.T) {
	l := &large{n: *scaleRecords, padding: func(i int) int { return 20 + i%300 }}
	every := max(l.n/50, 1)
	l.gone = func(i int) bool { return i%every == 7 }
	const gone = 50
	g := newLargeRun(t, l)

	began := time.Now()
	g.start()
	if l.n >= 100_000 { // progress is kept every 5,000 records
		g.until("half of the load", func() bool { return g.delivered.Load() >= int64(l.n/2) })
		g.kill()
		g.start()
	}
	g.until("the load", g.loaded)
	g.measure()
	rows, _ := l.served()
	require.Less(t, rows, l.n*13/10, "a load goes on where it was")
	g.reported("load", began)

	began = time.Now()
	l.change(func() { l.lost, l.rows = true, 0 })
	require.NoError(t, g.store.SetCounted(t.Context(), realm, map[string]time.Time{"Invoice": time.Now().Add(-60 * 24 * time.Hour)}))
	g.due()
	if l.n >= 3_000_000 { // and of a sweep every 1,000,000
		g.until("most of the sweep", func() bool { rows, _ := l.served(); return rows >= l.n*2/3 })
		g.kill()
		g.start()
		g.due()
	}
	noted := func() int {
		all, err := g.store.Absences(t.Context(), realm)
		require.NoError(t, err)
		return len(all["Invoice"])
	}
	g.until("the sweep", func() bool {
		counted, err := g.store.Counted(t.Context(), realm)
		return err == nil && time.Since(counted["Invoice"]) < time.Hour && noted() == gone
	})
	g.measure()
	rows, _ = l.served()
	require.Less(t, rows, l.n*3/2, "a sweep goes on where it was")
	g.reported("sweep", began)

	l.change(func() { l.ahead = 20 * time.Minute })
	g.due()
	g.until("the deletions", func() bool { return g.tombstone.Load() == gone })
	g.measure()
	g.reported("second look", began)
	g.kill()
}

// Documents of 100 kB to 2 MB are read some at a time.
func TestScale_MemoryOfLargeDocuments(t *testing.T) {
	n := max(60, *scaleRecords/5000)
	l := &large{n: n, gone: func(int) bool { return false }}
	l.padding = func(i int) int { return 100_000 + i*7919%19*100_000 }
	g := newLargeRun(t, l)
	began := time.Now()
	g.start()
	g.until("the load", g.loaded)
	g.measure()
	require.EqualValues(t, n, g.delivered.Load())
	g.reported("documents of 100 kB to 2 MB", began)
	g.kill()
}
