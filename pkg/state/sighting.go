package state

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed sight.lua
	sightLua    string
	sightScript = redis.NewScript(tallyLua + sightLua)
)

const (
	// flushEvery is how long a webhook stays unnoted, and so what a crash forgets.
	flushEvery = time.Second
	// flushAt is how many of them are not kept that long, maxUnnoted how many are kept
	// while Redis does not answer; the counts of others stay.
	flushAt, maxUnnoted = 4_000, 50_000
	// flushRealms bounds what is sent at once.
	flushRealms = 100
)

// Webhook is a webhook that was processed.
type Webhook struct {
	Kind
	ID string
	// Event is when it happened by Intuit's clock, Received when the webhook came.
	Event, Received time.Time
	// First says that it told of the change first: no sink had its effect.
	First bool
	// Delivered is when the change reached a sink; zero if none lacked it.
	Delivered time.Time
}

// Sightings counts webhooks and finds the gaps whose webhook came after all. It sends
// what it is told once a second: all of it is for people, and a crash may forget that
// second. It is safe for concurrent use.
type Sightings struct {
	store *Store
	late  func(ctx context.Context, gaps []Gap)
	full  chan struct{} // more than flushAt wait

	mu     sync.Mutex // guards the rest
	realms map[string]*sightings
	n      int // events in realms
	totals totals
}

// sightings are those of a realm.
type sightings struct {
	kinds  []Kind
	latest []time.Time
	counts []Tally
	events []sighted
}

type sighted struct {
	Webhook
	kind int
}

// Sightings makes a recorder; late is told of the gaps whose webhook came after all,
// from Flush, and may be nil.
func (s *Store) Sightings(late func(ctx context.Context, gaps []Gap)) *Sightings {
	if late == nil {
		late = func(context.Context, []Gap) {}
	}
	return &Sightings{store: s, late: late, full: make(chan struct{}, 1), realms: map[string]*sightings{}, totals: newTotals()}
}

// Note takes note of webhooks of a realm. It does not block.
func (x *Sightings) Note(realm string, webhooks ...Webhook) {
	x.mu.Lock()
	defer x.mu.Unlock()
	r := x.realms[realm]
	if r == nil {
		r = &sightings{}
		x.realms[realm] = r
	}
	r.events = slices.Grow(r.events, min(len(webhooks), maxUnnoted-x.n))
	for _, w := range webhooks {
		at := r.kind(w.Kind)
		if w.Event.After(r.latest[at]) {
			r.latest[at] = w.Event
		}
		t := w.tally()
		r.counts[at].Add(t)
		x.totals.counts.Add(w.Kind, t)
		x.totals.live[span(w.Event)] = true
		if w.Event.After(x.totals.heard[w.Kind]) {
			x.totals.heard[w.Kind] = w.Event
		}
		if w.First && w.Received.After(x.totals.told[realm]) {
			x.totals.told[realm] = w.Received
		}
		if x.n < maxUnnoted {
			r.events = append(r.events, sighted{w, at})
			x.n++
		}
	}
	if x.n >= flushAt {
		select {
		case x.full <- struct{}{}:
		default:
		}
	}
}

// kind is the place of k, of which a realm has few.
func (r *sightings) kind(k Kind) int {
	for i, held := range r.kinds {
		if held == k {
			return i
		}
	}
	r.kinds, r.latest, r.counts = append(r.kinds, k), append(r.latest, time.Time{}), append(r.counts, Tally{})
	return len(r.kinds) - 1
}

// tally is what a webhook adds to the counts: nothing if it was not the first to tell.
func (w Webhook) tally() Tally {
	if !w.First {
		return Tally{}
	}
	t := w.lag()
	t.Told = 1
	if !w.Delivered.IsZero() {
		t.Delivered, t.Delivery = 1, max(w.Delivered.Sub(w.Event), 0)
	}
	return t
}

func (w Webhook) lag() (t Tally) {
	t.Lag = max(w.Received.Sub(w.Event), 0)
	t.Lags.observe(t.Lag)
	return t
}

// Run flushes until ctx ends, and a last time then. failed is told of what was not
// noted.
func (x *Sightings) Run(ctx context.Context, failed func(error)) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			if err := x.Flush(context.WithoutCancel(ctx)); err != nil {
				failed(err)
			}
			return
		case <-tick.C:
		case <-x.full:
		}
		if err := x.Flush(ctx); err != nil {
			failed(err)
		}
	}
}

// Flush sends what was noted. What fails is given up: to send it again might count it
// twice.
func (x *Sightings) Flush(ctx context.Context) error {
	x.mu.Lock()
	realms, all := x.realms, x.totals
	x.realms, x.totals, x.n = map[string]*sightings{}, newTotals(), 0
	x.mu.Unlock()
	var errs []error
	var late []came
	part := make([]string, 0, flushRealms)
	send := func() {
		found, err := x.store.sight(ctx, part, realms)
		errs = append(errs, err)
		late = append(late, found...)
		part = part[:0]
	}
	for realm := range realms {
		if part = append(part, realm); len(part) == flushRealms {
			send()
		}
	}
	if len(part) > 0 {
		send()
	}
	var gaps []Gap
	for _, c := range late {
		gaps = append(gaps, c.gap)
		kind := Kind{c.gap.Entity, c.gap.Operation}
		all.counts.Add(kind, Tally{Late: 1})
		if c.by.First {
			all.counts.Add(c.by.Kind, Tally{Told: -1})
		} else {
			all.counts.Add(kind, c.by.lag())
		}
	}
	errs = append(errs, x.store.addTotals(ctx, all))
	if len(gaps) > 0 {
		x.late(ctx, gaps)
	}
	return errors.Join(errs...)
}

// came is a gap whose webhook came after all.
type came struct {
	gap Gap
	by  Webhook
}

// sight sends the sightings of some realms in one round trip.
func (s *Store) sight(ctx context.Context, realms []string, of map[string]*sightings) (late []came, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	keys, args := make([][]string, len(realms)), make([][]any, len(realms))
	answers := make([]*redis.Cmd, len(realms))
	pipe := s.db.Pipeline()
	for i, realm := range realms {
		keys[i] = []string{Key("seen", realm), weekKey(realm, s.now()), Key("gaps", realm)}
		args[i] = of[realm].args()
		answers[i] = sightScript.EvalSha(ctx, pipe, keys[i], args[i]...)
	}
	_, _ = pipe.Exec(ctx) // each has its own error
	var errs []error
	for i, answer := range answers {
		if redis.HasErrorPrefix(answer.Err(), "NOSCRIPT") {
			answer = sightScript.Run(ctx, s.db, keys[i], args[i]...)
		}
		found, err := answer.Slice()
		if err != nil {
			errs = append(errs, fmt.Errorf("record webhooks of realm %s: %w", realms[i], err))
			continue
		}
		some, err := of[realms[i]].late(realms[i], found)
		late, errs = append(late, some...), append(errs, err)
	}
	return late, errors.Join(errs...)
}

func (r *sightings) args() []any {
	args := make([]any, 0, 2+3*len(r.kinds)+7*len(r.events))
	args = append(args, weeksKept.Milliseconds(), len(r.kinds))
	for i, k := range r.kinds {
		args = append(args, k.field(), millis(r.latest[i]), r.counts[i].text())
	}
	for _, e := range r.events {
		deletion := e.Operation == "delete" || e.Operation == "merge"
		lag := ""
		if !e.First { // else it is in the counts
			lag = e.lag().lagText()
		}
		args = append(args, pairField(e.Entity, e.ID), seconds(e.Event), flag(deletion), e.kind+1, flag(e.First), max(millis(e.Received), 1), lag)
	}
	return args
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// late reads what the script found: places of events and the texts of their gaps.
func (r *sightings) late(realm string, found []any) (late []came, err error) {
	for i := 0; i+1 < len(found); i += 2 {
		at, ok := found[i].(int64)
		line, isText := found[i+1].(string)
		if !ok || !isText || at < 0 || int(at) >= len(r.events) {
			return late, fmt.Errorf("record webhooks of realm %s: unexpected answer %v", realm, found)
		}
		e := r.events[at]
		g, err := parseGap(realm, pairField(e.Entity, e.ID), strings.TrimSpace(line))
		if err != nil {
			return late, err
		}
		late = append(late, came{g, e.Webhook})
	}
	return late, nil
}
