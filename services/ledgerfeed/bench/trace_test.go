package bench_test

import (
	"bufio"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// company is one realm of the simulator, whose calls and truth count here: what
// the processor asks is measured, not how fast.
type company struct {
	*plant
	sim   *qbosim.Sim
	api   *httptest.Server
	hook  string // where its webhooks go
	realm string
}

// company connects a realm on cleared ground. Its webhooks are published at once,
// without an ingress between.
func (p *plant) company() *company {
	p.t.Helper()
	p.clear()
	c := &company{plant: p, realm: p.realms[0]}
	in := httptest.NewServer(http.HandlerFunc(c.receive))
	p.t.Cleanup(in.Close)
	c.hook = in.URL
	var err error
	c.sim, err = qbosim.New(qbosim.Options{
		Seed: 1, ClientID: app, ClientSecret: "secret", Aggregate: -1, Faults: qbosim.Faults{Latency: apiLatency},
	})
	require.NoError(p.t, err)
	c.api = httptest.NewServer(c.sim.Handler())
	p.t.Cleanup(func() { c.api.Close(); c.sim.Close() })
	c.open(c.realm)
	return c
}

func (c *company) open(realm string) {
	c.t.Helper()
	c.sim.AddRealm(realm)
	access, refresh := c.sim.Connect(realm)
	require.NoError(c.t, c.connections.Connect(c.t.Context(), realm, app, lasting(access, refresh)))
}

func (c *company) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		var n webhook.Notification
		if n, err = webhook.Parse(body); err == nil {
			err = c.conn.Publish(r.Context(), envelope.FromNotification(body, n, envelope.Meta{App: app, ReceivedAt: time.Now()})...)
		}
	}
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// listen starts the processor, and the sending of webhooks.
func (c *company) listen() *crew {
	c.t.Helper()
	c.sim.SetWebhookURL(c.hook)
	running := c.crew("ledgerfeed", 1, "LEDGERFEED_QBO_BASE_URL="+c.api.URL)
	running.release()
	ctx, stop := context.WithCancel(c.t.Context())
	c.t.Cleanup(stop)
	go func() { _ = c.sim.Run(ctx) }()
	return running
}

// create makes n invoices. Before listen nobody is told of them.
func (c *company) create(realm string, n int) []qbosim.Ref {
	c.t.Helper()
	refs := make([]qbosim.Ref, n)
	var err error
	for i := range refs {
		refs[i], err = c.sim.Create(realm, "Invoice", nil)
		require.NoError(c.t, err)
	}
	return refs
}

// stale is how many of the realm's invoices the table does not have as they are,
// of those that were told of.
func (c *company) stale(told map[qbosim.Ref]bool) (n int) {
	c.t.Helper()
	held := map[string]int64{}
	rows, err := c.db.Query(c.t.Context(), "SELECT id, version FROM ledgerfeed.entity WHERE realm = $1", c.realm)
	require.NoError(c.t, err)
	defer rows.Close()
	for rows.Next() {
		var id string
		var version int64
		require.NoError(c.t, rows.Scan(&id, &version))
		held[id] = version
	}
	require.NoError(c.t, rows.Err())
	for ref, truth := range c.sim.Truth(c.realm) {
		if told[ref] && held[ref.ID] != truth.Version {
			n++
		}
	}
	return n
}

// traces adds what the processor asks of the API in three situations.
func (r *processorReport) traces(p *plant) {
	r.flood(p)
	p.step(1, "10,000 changes of one realm beside one of another")
	r.play(p, bursty, burst)
	r.play(p, trickle, drip)
	p.step(1, "a burst and a trickle")
}

// flood is that thousands of one realm's invoices have changed, and while they
// are delivered one of another realm does.
func (r *processorReport) flood(p *plant) {
	n := 10_000
	if smoke() {
		n = 500
	}
	c := p.company()
	other := p.realms[1]
	c.open(other)
	at := time.Now()
	var events []*ledgerfeedv1.Event
	told := map[qbosim.Ref]bool{}
	for _, ref := range c.create(c.realm, n) {
		events, told[ref] = append(events, changed(ref.ID, at)), true
	}
	single := c.create(other, 1)[0]

	running := p.crew("ledgerfeed", 1, "LEDGERFEED_QBO_BASE_URL="+c.api.URL)
	defer running.stop()
	for len(events) > 0 {
		size := min(perEnvelope, len(events))
		require.NoError(p.t, running.put(p.t.Context(), enclose(c.realm, events[:size], at)...))
		events = events[size:]
	}
	began := running.release()
	p.until(time.Minute, "the first are delivered", func() bool {
		var some bool
		require.NoError(p.t, p.db.QueryRow(p.t.Context(), "SELECT EXISTS (SELECT FROM ledgerfeed.entity)").Scan(&some))
		return some
	})
	require.NoError(p.t, running.put(p.t.Context(), enclose(other, []*ledgerfeedv1.Event{changed(single.ID, at)}, time.Now())...))
	running.settle(5 * time.Minute)
	w, last := p.read(n + 1)
	w.took, w.calls = last.Sub(began), int64(c.sim.Stats().CallsByRealm[c.realm])
	row := rowOf(&series{contender: "ledgerfeed", scenario: flood, replicas: 1, windows: []window{w}})
	row.Lost = max(row.Lost, c.stale(told))
	r.Rows = append(r.Rows, row)
	require.NoError(p.t, p.db.QueryRow(p.t.Context(), `SELECT (extract(epoch FROM written_at - learned_at) * 1000)::float8
		FROM ledgerfeed.entity WHERE realm = $1`, other).Scan(&r.OtherRealm))
}

// play changes invoices of one realm as the trace says, over ten seconds.
func (r *processorReport) play(p *plant, name string, trace func(time.Duration) []int) {
	over := 10 * time.Second
	if smoke() {
		over = time.Second
	}
	updates := trace(over)
	c := p.company()
	refs := c.create(c.realm, invoices)
	running := c.listen()
	defer running.stop()
	told := map[qbosim.Ref]bool{}
	began := time.Now()
	for i, which := range updates {
		time.Sleep(time.Until(began.Add(over * time.Duration(i) / time.Duration(len(updates)))))
		require.NoError(p.t, c.sim.Update(refs[which], nil))
		told[refs[which]] = true
	}
	p.until(time.Minute, "all webhooks are sent", c.sim.Settled)
	running.settle(time.Minute)
	w, last := p.read(0)
	w.took, w.calls = last.Sub(began), int64(c.sim.Stats().Calls)
	w.events = c.sim.Stats().WebhookEvents
	require.Equal(p.t, len(updates), w.events, "an update without a webhook")
	// More than there are rows: an invoice may have been delivered several times.
	w.rows = int(sum(running.members[0], "ledgerfeed_processor_changes_delivered_total"))
	row := rowOf(&series{contender: "ledgerfeed", scenario: name, replicas: 1, windows: []window{w}})
	row.Lost = c.stale(told) // events that came together are no loss
	r.Rows = append(r.Rows, row)
}

// invoices of a realm whose invoices change by a trace.
const invoices = 400

// burst is that a few invoices change again and again: whose turn it is is drawn
// by Zipf's law, a hundred times a second, until each that was drawn was so five
// times in the mean.
func burst(over time.Duration) (updates []int) {
	const rate = 100
	random := rand.New(rand.NewPCG(1, 1))
	dirty := map[int]bool{}
	draw := rand.NewZipf(random, 1.1, 1, invoices-1)
	for len(updates) < int(rate*over.Seconds()) {
		which := int(draw.Uint64())
		if !dirty[which] && len(dirty) >= int(rate*over.Seconds())/5 {
			continue // the rest are to those that are dirty
		}
		dirty[which] = true
		updates = append(updates, which)
	}
	return updates
}

// drip is that now and then another invoice changes.
func drip(over time.Duration) (updates []int) {
	const rate = 2
	for i := range int(rate * over.Seconds()) {
		updates = append(updates, i)
	}
	return updates
}

// sum is a metric of a service, added up over its labels.
func sum(c *child, name string) (total float64) {
	resp, err := http.Get("http://" + c.admin() + "/metrics")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), name+"{") {
			fields := strings.Fields(lines.Text())
			value, _ := strconv.ParseFloat(fields[len(fields)-1], 64)
			total += value
		}
	}
	return total
}

// A burst is what it says: five updates of each invoice that changes at all.
func TestBurst_UpdatesEachFiveTimes(t *testing.T) {
	updates := burst(10 * time.Second)
	dirty := map[int]int{}
	for _, which := range updates {
		dirty[which]++
	}
	require.Len(t, updates, 1000)
	require.Len(t, dirty, 200)
}
