package processor_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Without -replicas.random the sequences are the same in every run; what the
// replicas make of them is not.
var (
	clusters  = flag.Int("replicas.clusters", 4, "how many clusters try sequences at the same time")
	sequences = flag.Int("replicas.sequences", 6, "how many sequences each of them tries")
	random    = flag.Bool("replicas.random", false, "draw the sequences anew, as many as -rapid.checks says on each cluster, and shrink what fails")
)

// I2, I3, I5, I12: three replicas, and any interleaving of changes, events that
// come late, twice or without a time, poison records, sinks that fail, a realm that
// is parked, replicas that stop, and replicas that die at the worst moments.
func TestReplicas_AnyInterleavingEndsInTheTruth(t *testing.T) {
	t.Parallel()
	if *random {
		for n := range *clusters {
			t.Run(fmt.Sprint("cluster=", n), func(t *testing.T) {
				t.Parallel()
				c := newCluster(t)
				rapid.Check(t, func(rt *rapid.T) {
					if err := c.play(script().Draw(rt, "script")); err != nil {
						rt.Fatal(err)
					}
				})
			})
		}
		return
	}
	// Not as subtests: most of the time is spent on waiting for redeliveries.
	var playing errgroup.Group
	for n := range *clusters {
		c := newCluster(t)
		playing.Go(func() error {
			for i := range *sequences {
				seed := n**sequences + i
				if err := c.play(script().Example(seed)); err != nil {
					return fmt.Errorf("seed %d: %w", seed, err)
				}
			}
			return nil
		})
	}
	require.NoError(t, playing.Wait())
}

// op is one thing that happens. What it means in detail is drawn from N, so that
// it means something wherever shrinking moves it.
type op struct {
	Do string
	N  uint64
}

func script() *rapid.Generator[[]op] {
	kinds := []string{
		"change", "change", "change", "publish", "publish", "publish", "repeat", "timeless",
		"side", "fail", "crash", "crash", "crash", "crash", "stop", "poison", "park", "wait", "wait",
	}
	one := rapid.Custom(func(t *rapid.T) op {
		return op{rapid.SampledFrom(kinds).Draw(t, "do"), rapid.Uint64().Draw(t, "n")}
	})
	return rapid.SliceOfN(one, 10, 60)
}

// sequence is one run: a realm of its own, and another beside it that may be parked.
type sequence struct {
	c           *cluster
	realm, side string
	parked      bool
	pending     []*ledgerfeedv1.Event // told of, not published
	sent        []*ledgerfeedv1.Event
	units       int // published, with all repetitions
	batches     int
	crashes     int64 // when it began
	failures    int
	poison      []qbosim.Ref
}

// play makes everything happen, lets the replicas come to rest, and judges.
func (c *cluster) play(ops []op) error {
	if c.played++; c.played%100 == 0 {
		c.t.Logf("%d sequences, %d crashes", c.played, c.crashes.Load())
	}
	s := &sequence{c: c, realm: fmt.Sprint(10_000 + 2*c.played), side: fmt.Sprint(10_001 + 2*c.played), crashes: c.crashes.Load()}
	c.begin(s.realm, s.side)
	for _, o := range ops {
		if err := s.do(o.Do, rand.New(rand.NewPCG(o.N, 1))); err != nil {
			return fmt.Errorf("%s: %w", o.Do, err)
		}
	}
	s.publish(s.pending)
	c.calm()
	if err := c.rest(); err != nil {
		return err
	}
	return errors.Join(s.judge(), s.again())
}

func (s *sequence) do(what string, rng *rand.Rand) error {
	b := s.c.bundle
	switch what {
	case "change":
		return s.change(rng)
	case "publish":
		rng.Shuffle(len(s.pending), func(i, j int) { s.pending[i], s.pending[j] = s.pending[j], s.pending[i] })
		n := rng.IntN(len(s.pending) + 1)
		fresh := s.pending[:n:n]
		s.pending = s.pending[n:]
		s.sent = append(s.sent, fresh...)
		s.publish(append(fresh, s.some(rng, rng.IntN(4))...))
	case "repeat":
		s.publish(s.some(rng, 1+rng.IntN(12)))
	case "timeless":
		for _, e := range s.some(rng, 1) {
			for range 1 + rng.IntN(8) {
				s.publish([]*ledgerfeedv1.Event{timeless(e)})
			}
		}
	case "side":
		if _, err := b.sim.Step(s.side); err != nil {
			return err
		}
		b.publish(b.webhooks()...)
	case "fail":
		n := 1 + rng.IntN(8)
		s.failures += n
		s.c.failing.Store(int64(n))
	case "crash":
		s.c.crash(rng.IntN(replicas), crash(1+rng.IntN(int(lastCrash))))
	case "stop":
		s.c.stop(rng.IntN(replicas))
	case "poison":
		s.spoil(rng)
	case "park":
		s.parked = true
		return b.connections.SetState(b.t.Context(), s.side, connection.ReauthRequired, "test")
	case "wait":
		s.c.wait()
	}
	return nil
}

func (s *sequence) change(rng *rand.Rand) error {
	s.c.clock.Advance(time.Duration(rng.IntN(2500)) * time.Millisecond)
	for range 1 + rng.IntN(8) {
		if _, err := s.c.sim.Step(s.realm); err != nil {
			return err
		}
	}
	for _, env := range s.c.webhooks() {
		s.pending = append(s.pending, env.GetEvents()...)
	}
	return nil
}

// some are n events that were published before, in any order, any of them twice.
func (s *sequence) some(rng *rand.Rand, n int) (events []*ledgerfeedv1.Event) {
	for range min(n, len(s.sent)) {
		events = append(events, s.sent[rng.IntN(len(s.sent))])
	}
	return events
}

// publish cuts events into envelopes.
func (s *sequence) publish(events []*ledgerfeedv1.Event) {
	s.units += len(events)
	for part := range slices.Chunk(events, 1+s.batches%5) {
		s.batches++
		s.c.publish(envelope.New(fromWebhook, s.realm, fmt.Sprint(s.batches), part, envelope.Meta{ReceivedAt: s.c.clock.Now()})...)
	}
}

// spoil makes the API fail on a record from now on.
func (s *sequence) spoil(rng *rand.Rand) {
	if len(s.sent) == 0 {
		return
	}
	s.poison = append(s.poison, refOfEvent(s.realm, s.sent[rng.IntN(len(s.sent))]))
	s.c.sim.SetFaults(qbosim.Faults{Poison: s.poison})
}

func refOfEvent(realm string, e *ledgerfeedv1.Event) qbosim.Ref {
	return qbosim.Ref{Realm: realm, Entity: entity.Canonical(e.GetEntity()), ID: e.GetEntityId()}
}

// judge looks at what is there at rest.
func (s *sequence) judge() error {
	dead, err := s.dead()
	if err != nil {
		return err
	}
	crashes := s.c.crashes.Load() - s.crashes
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	for _, p := range s.c.places {
		wrong, effects := p.report()
		errs = append(errs, wrong...)
		for key, n := range effects {
			// Each replica may be at the same event; a dead one's successor, too.
			if n > replicas+int(crashes) {
				bad("I5: %s took %s %d times, with %d crashes", p.name, key, n, crashes)
			}
		}
		for _, e := range append(s.sent, s.pending...) {
			ref := refOfEvent(s.realm, e)
			if c := p.newest(ref); c.GetVersion()/1_000_000 < e.GetOccurredAt().GetSeconds() && !dead[ref] {
				bad("I2: %s has %v at %d, an event of %v was published, and is no dead letter", p.name, ref, c.GetVersion(), e.GetOccurredAt().AsTime())
			}
		}
		errs = append(errs, s.equal(p, s.realm, dead))
		if !s.parked {
			errs = append(errs, s.equal(p, s.side, nil))
		}
	}
	if calls, most := s.calls(), s.most(int(crashes)); calls > most {
		bad("I12: %d calls for %d events, with %d crashes and %d failed writes", calls, s.units, crashes, s.failures)
	}
	return errors.Join(errs...)
}

// again publishes everything once more, on a good day: what was a dead letter is
// delivered. After that nothing has an effect: what comes again, which costs no call
// either, what has no time and so is read again, and an answer of the API that is
// older than what was delivered.
func (s *sequence) again() error {
	s.c.sim.SetFaults(qbosim.Faults{})
	s.c.clock.Advance(3 * time.Second)
	all := append(s.sent, s.pending...)
	s.publish(all)
	if err := s.c.rest(); err != nil {
		return err
	}
	calls := s.calls()
	errs := []error{s.unaffected("what comes again", func() { s.publish(all) })}
	if n := s.calls() - calls; n > 0 {
		errs = append(errs, fmt.Errorf("I12: %d calls for %d events that were delivered already; the last ones, by %s:\n%s\n%s",
			n, len(all), s.c.clock.Now().Format(time.RFC3339Nano), s.c.last(s.realm, n+4), s.uncovered(all)))
	}
	errs = append(errs, s.unaffected("what has no time", func() {
		for _, e := range all[:min(len(all), 5)] {
			s.publish([]*ledgerfeedv1.Event{timeless(e)})
		}
	}))
	for _, e := range all {
		ref := refOfEvent(s.realm, e)
		if lag, ok := s.lag(ref); ok {
			errs = append(errs, s.unaffected("an old answer", func() {
				s.c.sim.SetFaults(qbosim.Faults{ReadLag: lag})
				s.publish([]*ledgerfeedv1.Event{{Id: "old", Entity: ref.Entity, EntityId: ref.ID, Operation: updated}})
			}))
			break
		}
	}
	s.c.sim.SetFaults(qbosim.Faults{})
	for _, p := range s.c.places {
		errs = append(errs, s.equal(p, s.realm, nil))
	}
	return errors.Join(errs...)
}

// uncovered says what the marks know of each event.
func (s *sequence) uncovered(events []*ledgerfeedv1.Event) string {
	var all []string
	for _, e := range events {
		ref := refOfEvent(s.realm, e)
		line := fmt.Sprintf("%s %v of %s:", e.GetOperation(), ref, e.GetOccurredAt().AsTime().Format(time.RFC3339Nano))
		for _, p := range s.c.places {
			marks, err := s.c.store.Marks(s.c.t.Context(), s.realm, p.name, []state.Ref{{Entity: ref.Entity, ID: ref.ID}})
			line += fmt.Sprintf(" %s %+v %v", p.name, marks, err)
		}
		all = append(all, line)
	}
	return strings.Join(all, "\n")
}

// lag is how far the API must be behind to show an older state of a live record.
func (s *sequence) lag(ref qbosim.Ref) (time.Duration, bool) {
	states := s.c.sim.History(ref)
	first, last := states[0].LastUpdated.Add(time.Second), states[len(states)-1]
	return s.c.clock.Now().Sub(first), !last.Deleted && last.LastUpdated.After(first)
}

// unaffected says that after do no place was given anything.
func (s *sequence) unaffected(what string, do func()) error {
	before := s.effects()
	do()
	if err := s.c.rest(); err != nil {
		return err
	}
	if n := s.effects() - before; n > 0 {
		return fmt.Errorf("I5: %s was written, %d times", what, n)
	}
	return nil
}

func (s *sequence) effects() (n int) {
	for _, p := range s.c.places {
		_, effects := p.report()
		for _, times := range effects {
			n += times
		}
	}
	return n
}

func timeless(e *ledgerfeedv1.Event) *ledgerfeedv1.Event {
	e = proto.CloneOf(e)
	e.OccurredAt = nil
	return e
}

// most is how many calls there may be: one for each event, once more for each time
// that work was lost. What is gone may be asked for six times, by Query and by CDC,
// and poison is looked for by halves.
func (s *sequence) most(crashes int) int {
	gone := 0
	for _, state := range s.c.sim.Truth(s.realm) {
		if state.Deleted {
			gone++
		}
	}
	n := s.units * (1 + crashes + s.failures)
	if len(s.poison) > 0 {
		n *= 3
	}
	return n + 12*gone
}

func (s *sequence) calls() int { return s.c.sim.Stats().CallsByRealm[s.realm] }

// equal is I3: what a place holds of a realm is what QuickBooks has, deletions
// included, but for what is a dead letter.
func (s *sequence) equal(p *place, realm string, dead map[qbosim.Ref]bool) error {
	var errs []error
	truth := s.c.sim.Truth(realm)
	for ref, want := range truth {
		have := "nothing"
		if c := p.newest(ref); c != nil {
			have = describe(c.GetVersion(), c.GetDeleted(), c.GetDocument())
		}
		if is := describe(want.Version, want.Deleted, want.Raw); have != is && !dead[ref] {
			errs = append(errs, fmt.Errorf("I3: %s has of %v\n%s\nQuickBooks\n%s", p.name, ref, have, is))
		}
	}
	for _, ref := range p.refs(realm) {
		if _, ok := truth[ref]; !ok {
			errs = append(errs, fmt.Errorf("I3: %s has %v, which is not in QuickBooks", p.name, ref))
		}
	}
	return errors.Join(errs...)
}

// dead are the records that a dead letter names. Only poison may be a reason: CDC
// fails with it, too, so that what is gone cannot be told from what is not there yet.
func (s *sequence) dead() (map[qbosim.Ref]bool, error) {
	letters, err := s.c.conn.DeadLetters(s.c.t.Context(), 1000)
	if err != nil {
		return nil, err
	}
	dead := map[qbosim.Ref]bool{}
	for _, d := range letters {
		if d.RealmID != s.realm && d.RealmID != s.side {
			continue
		}
		if len(s.poison) == 0 || d.RealmID == s.side || d.Reason != stream.ReasonPoison && d.Reason != stream.ReasonNotFound {
			return nil, fmt.Errorf("I2: dead letter of realm %s: %s, %s, %v", d.RealmID, d.Reason, d.Detail, d.Envelope)
		}
		for _, e := range d.Envelope.GetEvents() {
			ref := refOfEvent(s.realm, e)
			dead[ref] = true
			ref.ID = e.GetMergedId()
			dead[ref] = true
		}
	}
	return dead, nil
}

// rest waits until no queue holds a message and no replica has one in hand: a slow one
// may work on what another has settled.
func (c *cluster) rest() error {
	ctx, cancel := context.WithTimeout(c.t.Context(), 6*patient) // what steps aside is tried again after up to 32 s
	defer cancel()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		stored, err := c.stored(ctx)
		if err == nil && stored == 0 && !c.busy() {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not at rest: %d messages are left: %w", stored, errors.Join(ctx.Err(), err))
		case <-poll.C:
		}
	}
}

// What a replica that was too slow had in hand is delivered by another, and then once more
// by itself. The cluster is not at rest in between: what it writes then would be taken for
// an effect of what happens next.
func TestCluster_IsNotAtRestWhileOneIsBehind(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	resume := sync.OnceFunc(func() { close(c.resume) })
	t.Cleanup(resume)
	s := &sequence{c: c, realm: "20000"}
	c.begin(s.realm)
	c.armed <- stalled
	ref, err := c.sim.Create(s.realm, "Invoice", nil)
	require.NoError(t, err)
	c.publish(c.webhooks()...)
	require.Eventually(t, func() bool {
		stored, err := c.stored(t.Context())
		return err == nil && stored == 0 && c.places[0].newest(ref) != nil && c.places[1].newest(ref) != nil
	}, patient, 10*time.Millisecond, "another replica delivers it")
	before := s.effects()
	rested := make(chan error, 1)
	go func() { rested <- c.rest() }()
	select {
	case err := <-rested:
		require.Failf(t, "at rest", "while a replica writes: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	require.Equal(t, before, s.effects())
	resume()
	require.NoError(t, <-rested)
	require.Equal(t, before+1, s.effects())
	require.NoError(t, s.equal(c.places[0], s.realm, nil))
}

// busy reports whether a replica that can write has work in hand.
func (c *cluster) busy() bool {
	for i := range c.slots {
		if r := c.slots[i].Load(); r != nil && !r.dead.Load() && r.InHand() > 0 {
			return true
		}
	}
	return false
}

// stored is how many messages the queues hold, in the order in which they may go from one
// to another: what moves meanwhile is seen twice, not missed.
func (c *cluster) stored(ctx context.Context) (n uint64, err error) {
	for _, q := range []struct {
		queue   stream.Queue
		durable string
	}{{stream.Events, "processor"}, {stream.Waiting, "processor_waiting"}, {stream.Retry("a"), "processor-a"}, {stream.Retry("b"), "processor-b"}} {
		lag, err := c.conn.Lag(ctx, q.queue, q.durable)
		if err != nil {
			return n, err
		}
		n += lag.Stored
	}
	return n, nil
}
