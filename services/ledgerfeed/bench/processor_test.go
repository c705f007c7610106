package bench_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// The scenarios, each a row of the table for each contender.
const (
	backlog = "backlog"          // all events are there when the consumers begin
	steady  = "200/s, API 20 ms" // they come when they are due
	scale   = "backlog, API 20 ms"
	flood   = "flood"
	bursty  = "burst"
	trickle = "trickle"
)

const (
	apiLatency = 20 * time.Millisecond
	changeRate = 200 // changes a second
)

// slowReplica makes the API's latency most of what a replica does: two calls at
// a time, each for ten records.
var slowReplica = []string{
	"LEDGERFEED_PROCESSOR_PARALLEL=2", "LEDGERFEED_PROCESSOR_BATCH_SIZE=10",
	// So that they end together: what a replica has in hand is nobody else's to take.
	"LEDGERFEED_PROCESSOR_MAX_ACK_PENDING=32",
}

var consumers = []string{"ledgerfeed", "bare", "river"}

func TestProcessor(t *testing.T) {
	p := (&bench{t: t, binary: build(t, "processor"), began: time.Now()}).plant()
	r := newProcessorReport()
	if !smoke() {
		require.NoError(t, os.MkdirAll(*out, 0o755))
	}
	var all []*series
	for _, name := range consumers {
		if wanted(name) {
			all = append(all, &series{contender: name, scenario: backlog, replicas: 1}, &series{contender: name, scenario: steady, replicas: 1})
		}
	}
	replicas := []int{1, 2, 4}
	if smoke() {
		replicas = replicas[:2]
	}
	for _, replicas := range replicas {
		if wanted("ledgerfeed") {
			all = append(all, &series{contender: "ledgerfeed", scenario: scale, replicas: replicas, settings: slowReplica})
		}
	}
	p.left = float64(len(all)*(*rounds+1)) + 2
	for _, s := range all {
		if s.scenario != steady && !smoke() {
			p.warm(s)
		}
	}
	for round := range *rounds {
		for _, s := range turn(all, round) {
			p.measure(s, *duration)
			p.step(1, "round %d/%d: %s", round+1, *rounds, s)
		}
	}
	r.add(all)
	if wanted("ledgerfeed") {
		p.profileBacklog(all)
		r.traces(p)
	}
	r.write(t)
	for _, row := range r.Rows {
		require.Positive(t, row.Delivered, "%s (%s) delivered nothing", row.Contender, row.Scenario)
		require.Zero(t, row.Lost, "%s (%s) lost changes", row.Contender, row.Scenario)
	}
	for _, bar := range r.judge() {
		if !bar.held && !r.noise() {
			t.Errorf("missed: %s", bar.text)
		}
	}
}

// series is what one contender does in one scenario, window after window.
type series struct {
	contender, scenario string
	replicas            int
	settings            []string
	rate                float64 // events a second when it was warmed
	windows             []window
}

func (s *series) String() string {
	w := s.windows[len(s.windows)-1]
	return fmt.Sprintf("%s ×%d, %s: %.0f events/s, p50 %.0f ms, p95 %.0f ms, %d API calls, %d lost",
		s.contender, s.replicas, s.scenario, w.rate(), w.latency(0.5), w.latency(0.95), w.calls, w.lost())
}

// window is one measurement.
type window struct {
	events, rows int
	took         time.Duration // from the release of the consumers to the last row
	calls        int64
	cpu          time.Duration
	latencies    []float64 // milliseconds, sorted
}

func (w window) lost() int { return w.events - w.rows }

func (w window) rate() float64 { return float64(w.rows) / w.took.Seconds() }

// latency is that which the given part of the changes did not exceed.
func (w window) latency(part float64) float64 {
	if len(w.latencies) == 0 {
		return 0
	}
	return w.latencies[min(int(part*float64(len(w.latencies))), len(w.latencies)-1)]
}

// warm finds out how many events fill a window. It counts for nothing.
func (p *plant) warm(s *series) {
	p.t.Helper()
	n := 20_000
	if s.scenario == scale {
		n = 1000 * s.replicas
	}
	s.rate = p.backlog(s, n).rate()
	p.step(1, "%s ×%d is warm for %s: %.0f events/s", s.contender, s.replicas, s.scenario, s.rate)
}

func (p *plant) measure(s *series, d time.Duration) {
	p.t.Helper()
	var w window
	if s.scenario == steady {
		w = p.steady(s, d)
	} else {
		n := int(s.rate * d.Seconds())
		w = p.backlog(s, max(n-n%perEnvelope, 20*perEnvelope))
		s.rate = w.rate() // the next one fills its window better
	}
	s.windows = append(s.windows, w)
}

// prepare starts the crew of a window on cleared ground.
func (p *plant) prepare(s *series) *crew {
	p.t.Helper()
	p.clear()
	p.connect()
	p.books.takes(map[string]time.Duration{steady: apiLatency, scale: apiLatency}[s.scenario])
	return p.crew(s.contender, s.replicas, s.settings...)
}

// backlog measures how long n events take that are all there at the beginning.
func (p *plant) backlog(s *series, n int) window {
	p.t.Helper()
	for range 3 {
		if w, ok := p.tryBacklog(s, n); ok {
			return w
		}
	}
	p.t.Fatalf("%s ×%d began too early, three times", s.contender, s.replicas)
	return window{}
}

func (p *plant) tryBacklog(s *series, n int) (w window, ok bool) {
	p.t.Helper()
	c := p.prepare(s)
	defer c.stop()
	require.NoError(p.t, c.put(p.t.Context(), p.envelopes(n)...))
	if ok = c.held(); !ok {
		return w, false
	}
	calls, cpu := p.books.calls(), c.used()
	began := c.release()
	c.settle(2*time.Minute + 10**duration)
	w, last := p.read(n)
	w.took, w.calls, w.cpu = last.Sub(began), p.books.calls()-calls, c.used()-cpu
	return w, true
}

// steady measures how late changes are that come one by one, at random moments.
// A change's time counts from when it was due, whenever it was published.
func (p *plant) steady(s *series, d time.Duration) window {
	p.t.Helper()
	c := p.prepare(s)
	defer c.stop()
	c.release()
	calls, cpu := p.books.calls(), c.used()
	gaps := rand.New(rand.NewPCG(1, uint64(len(s.windows))))
	publishing, ctx := errgroup.WithContext(interrupted)
	began, n := time.Now(), 0
	for due := began; due.Before(began.Add(d)); n++ {
		due = due.Add(time.Duration(gaps.ExpFloat64() * float64(time.Second) / changeRate))
		time.Sleep(time.Until(due))
		env := p.envelope(1)
		publishing.Go(func() error { return c.put(ctx, env) })
	}
	require.NoError(p.t, publishing.Wait())
	c.settle(time.Minute)
	w, last := p.read(n)
	w.took, w.calls, w.cpu = last.Sub(began), p.books.calls()-calls, c.used()-cpu
	return w
}

// read counts the rows and says when the last one was written. A row's time is
// the beginning of its transaction, which is one statement.
func (p *plant) read(events int) (w window, last time.Time) {
	p.t.Helper()
	rows, err := p.db.Query(p.t.Context(), "SELECT learned_at, written_at FROM ledgerfeed.entity")
	require.NoError(p.t, err)
	defer rows.Close()
	for rows.Next() {
		var learned, written time.Time
		require.NoError(p.t, rows.Scan(&learned, &written))
		w.latencies = append(w.latencies, milliseconds(written.Sub(learned)))
		if written.After(last) {
			last = written
		}
	}
	require.NoError(p.t, rows.Err())
	slices.Sort(w.latencies)
	w.events, w.rows = events, len(w.latencies)
	return w, last
}

// profileBacklog writes profiles of the processor at work on a backlog, in a
// window of its own.
func (p *plant) profileBacklog(all []*series) {
	i := slices.IndexFunc(all, func(s *series) bool { return s.contender == "ledgerfeed" && s.scenario == backlog })
	if !*profiles || smoke() || i < 0 {
		return
	}
	s := all[i]
	c := p.prepare(s)
	defer c.stop()
	require.NoError(p.t, c.put(p.t.Context(), p.envelopes(int(1.5*s.rate*duration.Seconds()))...))
	c.release()
	m := c.members[0]
	require.NoError(p.t, m.save(fmt.Sprintf("debug/pprof/profile?seconds=%d", max(1, int(duration.Seconds()))), "processor.cpu.pprof"))
	require.NoError(p.t, m.save("debug/pprof/allocs", "processor.allocs.pprof"))
	require.NoError(p.t, m.save("metrics", "processor.metrics.txt"))
	c.settle(2*time.Minute + 10**duration)
}
