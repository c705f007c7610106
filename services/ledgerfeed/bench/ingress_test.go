package bench_test

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/load"
)

var (
	window = flag.Duration("bench.window", 200*time.Millisecond, "measured time of a window; 20s for figures that count")
	rounds = flag.Int("bench.rounds", 1, "windows of each contender; 3 for figures that count")
	only   = flag.String("bench.only", "", "contenders to run, separated by commas; all if empty")
	out    = flag.String("bench.out", "", "directory for ingress.json; none if empty")
)

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		if err := runChild(name); err != nil {
			fmt.Fprintln(os.Stderr, name, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	os.Exit(devtest.Main(m))
}

// The load: 10 events of 2 realms a request, which are 2 messages.
const (
	events, realms = 10, 2
	syncConns      = 256
	p99Bound       = 50 * time.Millisecond
)

// contender is one server on the broker of its profile.
type contender struct {
	*child
	name   string
	stored func() int64 // how much it has stored, in requests
	idle   load.Report
	runs   []load.Report
	cpu    []float64 // milliseconds of processor time for 1,000 requests
	lost   int64
	kept   int64
}

// profile is one setting of the broker and its contenders.
type profile struct {
	t          *testing.T
	name       string
	broker     string
	js         jetstream.JetStream
	contenders []*contender
}

func TestIngress(t *testing.T) {
	binary := buildIngress(t)
	report := &report{}
	for _, name := range []string{relaxed, synced} {
		p := startProfile(t, name, binary)
		p.warm()
		for round := range *rounds {
			for i := range p.contenders {
				c := p.contenders[(i+round)%len(p.contenders)]
				p.measure(round, c)
			}
		}
		p.measureIdle()
		p.together()
		report.add(p)
		for _, c := range p.contenders {
			c.stop()
		}
	}
	report.memory(t, binary)
	report.write(t)
	for _, row := range report.Rows {
		require.Zero(t, row.Lost, "%s (%s) answered 200 for what it did not store", row.Contender, row.Profile)
		require.Positive(t, row.Answered)
	}
}

const (
	relaxed = "r1-relaxed"
	synced  = "r1-sync-always"
)

func buildIngress(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "ingress")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "github.com/ledgerfeed/ledgerfeed/services/ingress/cmd/ingress")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, string(text))
	return binary
}

func startProfile(t *testing.T, name, binary string) *profile {
	t.Helper()
	p := &profile{t: t, name: name}
	sync := "BENCH_SYNC=" + map[string]string{relaxed: "", synced: "always"}[name]
	dir := diskDir(t)
	broker := startChild(t, "broker", sync, "BENCH_DIR="+dir)
	var monitor string
	p.broker, monitor, _ = strings.Cut(broker.addr, " ")

	nc, err := nats.Connect(p.broker)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	p.js, err = jetstream.New(nc)
	require.NoError(t, err)
	_, err = p.js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: peerStream, Subjects: []string{peerTopic}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage,
		Compression: jetstream.S2Compression, Discard: jetstream.DiscardNew, MaxBytes: 4 << 30, Duplicates: 2 * time.Minute,
	})
	require.NoError(t, err)

	p.add("ledgerfeed", func() *child { return startIngress(t, binary, p.broker, monitor, name, 4096) }, p.messages(eventStream, realms))
	p.add("bare", func() *child { return startChild(t, "bare", "BENCH_NATS="+p.broker, "BENCH_SAMPLE="+sample(t)) }, p.messages(eventStream, realms))
	p.add("watermill", func() *child { return startChild(t, "watermill", "BENCH_NATS="+p.broker) }, p.messages(peerStream, 1))
	if wanted("river") {
		database := devtest.Postgres(t)
		if name == synced {
			database = devtest.DurablePostgres(t)
		}
		p.add("river", func() *child { return startChild(t, "river", "BENCH_POSTGRES="+database) }, p.jobs(database))
	}
	return p
}

// diskDir is a directory on the disk, where a sync costs what it costs: the
// system's temporary one may be in memory.
func diskDir(t *testing.T) string {
	t.Helper()
	build := filepath.Join("..", "..", "..", "build")
	require.NoError(t, os.MkdirAll(build, 0o755))
	dir, err := os.MkdirTemp(build, "bench-data-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func wanted(name string) bool {
	return *only == "" || slices.Contains(strings.Split(*only, ","), name)
}

func (p *profile) add(name string, start func() *child, stored func() int64) {
	if wanted(name) {
		p.contenders = append(p.contenders, &contender{child: start(), name: name, stored: stored})
	}
}

// startIngress starts the real service, as an operator would.
func startIngress(t *testing.T, binary, broker, monitor, profile string, inFlight int) *child {
	t.Helper()
	listen, admin := freeAddress(t), freeAddress(t)
	cmd := exec.CommandContext(context.Background(), binary)
	cmd.Env = append(os.Environ(),
		"LEDGERFEED_NATS_URL="+broker, "LEDGERFEED_NATS_MONITOR_URL="+monitor,
		"LEDGERFEED_NATS_PROFILE="+map[string]string{relaxed: "single-relaxed", synced: "single"}[profile],
		"LEDGERFEED_INGRESS_LISTEN="+listen, "LEDGERFEED_INGRESS_APPS=bench="+verifierToken,
		"LEDGERFEED_ADMIN_LISTEN="+admin, "LEDGERFEED_LOG_LEVEL=warn",
		fmt.Sprintf("LEDGERFEED_INGRESS_MAX_IN_FLIGHT=%d", inFlight),
	)
	c := startProcess(t, "ledgerfeed", cmd)
	c.addr = listen
	require.Eventually(t, func() bool {
		resp, err := http.Get("http://" + admin + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, 20*time.Second, 20*time.Millisecond, "the ingress does not become ready")
	t.Logf("ingress %s: http://%s/debug/pprof/", profile, admin)
	return c
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// sample is a body of the load.
func sample(t *testing.T) string {
	t.Helper()
	bodies := make(chan string, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body := make([]byte, r.ContentLength)
		if n, _ := r.Body.Read(body); n > 0 {
			select {
			case bodies <- string(body[:n]):
			default:
			}
		}
	})}
	go func() { _ = s.Serve(l) }()
	defer s.Close()
	o := options(l.Addr().String())
	o.Rate, o.Connections, o.Duration = 10, 1, 50*time.Millisecond
	_, err = load.Run(t.Context(), o)
	require.NoError(t, err)
	return <-bodies
}

func options(addr string) load.Options {
	o := load.DefaultOptions()
	o.URL, o.Token = "http://"+addr+path, secret.String(verifierToken)
	o.Events, o.Realms = events, realms
	return o
}

// messages counts what a stream ever took, in requests of so many messages.
func (p *profile) messages(name string, each int64) func() int64 {
	return func() int64 {
		s, err := p.js.Stream(p.t.Context(), name)
		if err != nil {
			return 0
		}
		return int64(s.CachedInfo().State.LastSeq) / each
	}
}

func (p *profile) jobs(url string) func() int64 {
	conn, err := pgx.Connect(p.t.Context(), url)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return func() (n int64) {
		if err := conn.QueryRow(p.t.Context(), "SELECT coalesce(max(id), 0) FROM river_job").Scan(&n); err != nil {
			return 0
		}
		return n
	}
}

// run loads c for d and adds what is missing of what it answered to its losses.
func (p *profile) run(c *contender, rate float64, conns int, d time.Duration) load.Report {
	p.t.Helper()
	before, cpu := c.stored(), c.child.cpu()
	o := options(c.addr)
	o.Rate, o.Connections, o.Duration, o.Seed = rate, conns, d, 1
	r, err := load.Run(p.t.Context(), o)
	require.NoError(p.t, err, c.name)
	kept := c.stored() - before
	c.lost += max(0, r.Answered-kept)
	c.kept += kept
	if r.Answered > 0 {
		c.cpu = append(c.cpu, float64((c.child.cpu()-cpu).Microseconds())/float64(r.Answered))
	}
	p.clear()
	return r
}

// clear empties the streams: no contender pays for what another has stored.
func (p *profile) clear() {
	p.t.Helper()
	for _, name := range []string{eventStream, peerStream} {
		s, err := p.js.Stream(p.t.Context(), name)
		require.NoError(p.t, err)
		require.NoError(p.t, s.Purge(p.t.Context()))
	}
}

func (p *profile) warm() {
	for _, c := range p.contenders {
		p.run(c, 0, 32, min(*window, 2*time.Second))
		c.cpu, c.kept = nil, 0
	}
}

// measure is one window of one contender: where the broker syncs always, as fast
// as 256 connections are answered; else the highest rate at which 99 of 100
// answers come within 50 ms.
func (p *profile) measure(round int, c *contender) {
	r := load.Report{}
	if p.name == synced {
		r = p.run(c, 0, syncConns, *window)
	} else {
		r = p.highest(c)
	}
	c.runs = append(c.runs, r)
	p.t.Logf("%s round %d/%d %-10s %8.0f requests/s  p50 %-10s p99 %-10s p99.9 %-10s cpu %.2f ms/1000", p.name, round+1, *rounds, c.name, r.RPS, r.P50, r.P99, r.P999, median(c.cpu))
}

// highest looks for the rate in short windows and confirms it in a full one.
func (p *profile) highest(c *contender) load.Report {
	short := max(*window/5, 100*time.Millisecond)
	capacity := p.run(c, 0, 64, short).RPS
	low, high := 0.0, 1.15*capacity
	for rate, i := 0.85*capacity, 0; i < 5; i++ {
		if held(p.run(c, rate, syncConns, short)) {
			low = rate
		} else {
			high = rate
		}
		rate = (low + high) / 2
	}
	for rate := max(low, capacity/10); ; rate *= 0.95 {
		if r := p.run(c, rate, syncConns, *window); held(r) || rate < capacity/20 {
			return r
		}
	}
}

func held(r load.Report) bool { return r.P99 < p99Bound && r.Failed == 0 && r.Offered > 0 }

// measureIdle is a request now and then.
func (p *profile) measureIdle() {
	for _, c := range p.contenders {
		c.idle = p.run(c, 20, 4, max(*window/2, 300*time.Millisecond))
		p.t.Logf("%s idle %-10s p50 %s p99 %s", p.name, c.name, c.idle.P50, c.idle.P99)
	}
}

// together measures the latencies of all at the same rate, which the slowest of
// them can bear: at rates of their own they say little beside each other.
func (p *profile) together() {
	if p.name == synced {
		return // 256 connections are the same for all
	}
	rate := 0.0
	for _, c := range p.contenders {
		if own := 0.8 * medianOf(c.runs, func(r load.Report) float64 { return r.RPS }); rate == 0 || own < rate {
			rate = own
		}
	}
	for i := range *rounds {
		for j := range p.contenders {
			c := p.contenders[(i+j)%len(p.contenders)]
			r := p.run(c, rate, syncConns, *window)
			r.RPS = c.runs[min(i, len(c.runs)-1)].RPS
			c.runs = append(c.runs, r)
			p.t.Logf("%s at %.0f/s %-10s p50 %-10s p99 %-10s p99.9 %s", p.name, rate, c.name, r.P50, r.P99, r.P999)
		}
	}
	for _, c := range p.contenders {
		c.runs = c.runs[*rounds:] // the latencies are those at the common rate
	}
}
