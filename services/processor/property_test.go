package processor_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// I3: whatever order the events come in, however often, cut into whatever
// envelopes, with sinks that fail and processors that stop in between: at rest
// the sinks hold what QuickBooks holds, and no version went back on the way.
func TestProcessor_AtRestTheSinksEqualQuickBooks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var failing atomic.Int64 // how many writes are still to fail
	b.b.misbehave(func(context.Context, []*ledgerfeedv1.Change) error {
		if failing.Add(-1) >= 0 {
			return errors.New("not now")
		}
		return nil
	})
	p := b.start()
	checks := 0
	rapid.Check(t, func(rt *rapid.T) {
		checks++
		w := &world{b: b, p: &p, realm: fmt.Sprint(1000 + checks), failing: &failing}
		b.connect(w.realm)
		rt.Repeat(map[string]func(*rapid.T){
			"change":  w.change,
			"publish": w.publish,
			"fail":    w.fail,
			"restart": w.restart,
			"settle":  w.settle,
			"":        func(*rapid.T) {},
		})
		w.end(rt)
	})
	b.a.requireOrdered(t)
	b.b.requireOrdered(t)
}

// world is one run of the property: a realm of its own.
type world struct {
	b       *bundle
	p       *running
	realm   string
	failing *atomic.Int64
	pending []*ledgerfeedv1.Event // told of, not published
	sent    []*ledgerfeedv1.Event
	batches int
}

func (w *world) change(rt *rapid.T) {
	w.b.clock.Advance(time.Duration(rapid.IntRange(0, 2500).Draw(rt, "ms")) * time.Millisecond)
	for range rapid.IntRange(1, 8).Draw(rt, "steps") {
		if _, err := w.b.sim.Step(w.realm); err != nil {
			rt.Fatal(err)
		}
	}
	for _, env := range w.b.webhooks() {
		if env.GetRealmId() == w.realm {
			w.pending = append(w.pending, env.GetEvents()...)
		}
	}
}

// publish sends some of what is pending, and some of what was sent, in any order.
func (w *world) publish(rt *rapid.T) {
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "order"), 0))
	rng.Shuffle(len(w.pending), func(i, j int) { w.pending[i], w.pending[j] = w.pending[j], w.pending[i] })
	n := rapid.IntRange(0, len(w.pending)).Draw(rt, "fresh")
	batch := append([]*ledgerfeedv1.Event(nil), w.pending[:n]...)
	w.pending = w.pending[n:]
	w.sent = append(w.sent, batch...)
	for range rapid.IntRange(0, min(len(w.sent), 5)).Draw(rt, "again") {
		batch = append(batch, w.sent[rng.IntN(len(w.sent))])
	}
	w.send(rng, batch)
}

// send cuts a batch into envelopes at random.
func (w *world) send(rng *rand.Rand, batch []*ledgerfeedv1.Event) {
	for len(batch) > 0 {
		n := 1 + rng.IntN(len(batch))
		w.batches++
		w.b.publish(envelope.New(fromWebhook, w.realm, fmt.Sprint(w.batches), batch[:n], envelope.Meta{ReceivedAt: w.b.clock.Now()})...)
		batch = batch[n:]
	}
}

func (w *world) fail(rt *rapid.T) { w.failing.Store(int64(rapid.IntRange(1, 2).Draw(rt, "writes"))) }

func (w *world) restart(*rapid.T) {
	w.p.stop()
	*w.p = w.b.start()
}

func (w *world) settle(*rapid.T) { w.b.settle(*w.p) }

func (w *world) end(rt *rapid.T) {
	w.send(rand.New(rand.NewPCG(1, 1)), w.pending)
	w.b.settle(*w.p)
	truth := w.b.sim.Truth(w.realm)
	for _, s := range []*memory{w.b.a, w.b.b} {
		want, got := map[string]string{}, map[string]string{}
		for ref, state := range truth {
			want[ref.Entity+" "+ref.ID] = describe(state.Version, state.Deleted, state.Raw)
		}
		for ref, c := range s.all() {
			if ref.Realm == w.realm {
				got[ref.Entity+" "+ref.ID] = describe(c.GetVersion(), c.GetDeleted(), c.GetDocument())
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Fatalf("sink %s differs from QuickBooks:\n%s", s.name, diff)
		}
	}
	if dead := w.b.dead(); len(dead) > 0 {
		rt.Fatalf("%d dead letters, the first: %s %s %v", len(dead), dead[0].Reason, dead[0].Detail, dead[0].Envelope)
	}
}

// describe leaves the version of a tombstone out: of an entity that CDC does not
// cover nobody knows when it went, if its deletion comes after that was found out.
func describe(version int64, deleted bool, document []byte) string {
	if deleted {
		return "deleted"
	}
	return fmt.Sprintf("%d %s", version, document)
}
