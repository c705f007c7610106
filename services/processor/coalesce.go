package processor

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// lanes hold what waits to be delivered: a lane for each realm and entity type
// that has something.
//
// The first event of an idle lane is delivered at once. What comes within the
// window of that waits for its end, or until a batch is full, and is delivered
// together; a lane has one batch under way at a time. Realms take turns: each has
// its share of the parallel work, and whoever waits for it is served in order.
type lanes struct {
	window   time.Duration
	batch    int
	perRealm int64
	parallel *semaphore.Weighted
	deliver  func(context.Context, *batch)
	now      func() time.Time // of the events; windows are of real time

	working sync.WaitGroup

	mu     sync.Mutex // guards the rest, and what is in the lanes
	realms map[string]*realm
}

// realm is a realm with at least one lane.
type realm struct {
	id string
	// slots bound how much of the parallel work is one realm's: a realm that has
	// to wait for its limiter must not make all others wait.
	slots *semaphore.Weighted
	lanes map[string]*lane
}

// lane is the queue of one realm and entity type. Items wait in the order their
// first events came, those that a webhook told of first.
type lane struct {
	realm    *realm
	info     entity.Info // Name alone if the table does not hold the entity
	known    bool
	waiting  map[string]*item
	live     []*item
	backfill []*item

	due   time.Time   // before that no batch begins that is not full
	asked bool        // a goroutine is on its way to take a batch
	busy  bool        // a batch is under way
	timer *time.Timer // looks at the lane when it is due; nil if none does
}

// item is one entity with all that is known to have happened to it since it was
// last taken out of its lane.
type item struct {
	ref   state.Ref
	info  *entity.Info
	known bool
	units []*unit
	one   [1]*unit // holds units where there is one, as nearly always
	live  bool
	taken bool

	// What the steps found out, see there.
	lacking  sinkSet         // dedupe
	marks    []state.Mark    // dedupe, by sink
	unwanted sinkSet         // sift: what of lacking is marked and not written
	verdict  verdict         // hydrate
	follow   *state.FollowUp // hydrate: what the next scan must look at; nil is nothing
	soon     bool            // hydrate: within minutes
	left     bool            // hydrate: to that scan, nothing is delivered
	failed   []error         // write, by sink
	reached  time.Time       // mark: when it was at the first sink
}

// batch is what is taken through the steps together: of one entity type, or of
// several that one call can tell about.
type batch struct {
	realm string
	lanes []*lane
	all   []*item
	items []*item // those that some step still has to look at
}

func newLanes(c ProcessorConfig, now func() time.Time, deliver func(context.Context, *batch)) *lanes {
	return &lanes{
		window: c.CoalesceWindow, batch: c.BatchSize, perRealm: int64(c.RealmParallel),
		parallel: semaphore.NewWeighted(int64(c.Parallel)),
		deliver:  deliver, now: now, realms: map[string]*realm{},
	}
}

// add queues the units of one message, all of them before the first is taken.
func (l *lanes) add(ctx context.Context, units []*unit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	touched := make([]*lane, len(units))
	for i, u := range units {
		touched[i] = l.laneLocked(u)
		touched[i].addLocked(u)
	}
	for _, n := range touched {
		l.wakeLocked(ctx, n)
	}
}

func (l *lanes) laneLocked(u *unit) *lane {
	id := u.from.env.GetRealmId()
	r := l.realms[id]
	if r == nil {
		r = &realm{id: id, slots: semaphore.NewWeighted(l.perRealm), lanes: map[string]*lane{}}
		l.realms[id] = r
	}
	n := r.lanes[u.entity]
	if n == nil {
		info, known := entity.Lookup(u.entity)
		if !known {
			info = entity.Info{Name: u.entity}
		}
		n = &lane{realm: r, info: info, known: known, waiting: map[string]*item{}}
		r.lanes[u.entity] = n
	}
	return n
}

func (n *lane) addLocked(u *unit) {
	it := n.waiting[u.id]
	if it == nil {
		it = &item{ref: state.Ref{Entity: u.entity, ID: u.id}, info: &n.info, known: n.known}
		it.units = it.one[:0]
		n.waiting[u.id] = it
		if !u.webhook() {
			n.backfill = append(n.backfill, it)
		}
	}
	if u.webhook() && !it.live {
		it.live = true
		n.live = append(n.live, it) // if it is in backfill too, whoever comes second finds it taken
	}
	it.units = append(it.units, u)
}

// wakeLocked has a batch taken out of the lane, now or when it is due, and forgets
// a lane that is empty and need not remember when the next is due.
func (l *lanes) wakeLocked(ctx context.Context, n *lane) {
	wait := time.Until(n.due)
	full := len(n.waiting) >= l.batch || ctx.Err() != nil
	switch {
	case n.busy || n.asked:
	case len(n.waiting) > 0 && (wait <= 0 || full):
		n.asked = true
		l.working.Go(func() { l.work(ctx, n) })
	case wait > 0 && n.timer == nil:
		n.timer = time.AfterFunc(wait, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			n.timer = nil
			l.wakeLocked(ctx, n)
		})
	case wait <= 0:
		l.forgetLocked(n)
	}
}

func (l *lanes) forgetLocked(n *lane) {
	if n.realm.lanes[n.info.Name] == n {
		delete(n.realm.lanes, n.info.Name)
	}
	if len(n.realm.lanes) == 0 && l.realms[n.realm.id] == n.realm {
		delete(l.realms, n.realm.id)
	}
}

// work delivers one batch of the lane. It is taken as late as possible, so that
// it is as large as possible.
func (l *lanes) work(ctx context.Context, n *lane) {
	// After the end of ctx there is no slot to wait for: what is left fails
	// at once and goes back to the broker.
	release := l.slot(ctx, n.realm)
	b := l.take(n)
	if b != nil {
		l.deliver(ctx, b)
	}
	release()
	l.done(ctx, n, b)
}

func (l *lanes) slot(ctx context.Context, r *realm) (release func()) {
	if r.slots.Acquire(ctx, 1) != nil {
		return func() {}
	}
	if l.parallel.Acquire(ctx, 1) != nil {
		return func() { r.slots.Release(1) }
	}
	return func() {
		l.parallel.Release(1)
		r.slots.Release(1)
	}
}

// take takes a batch out of the lane, and out of others of the realm if one call
// can tell about them all; nil if another batch has taken what there was.
func (l *lanes) take(n *lane) *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	n.asked = false
	if n.busy {
		return nil
	}
	b := &batch{realm: n.realm.id}
	for _, n := range l.togetherLocked(n) {
		l.drawLocked(b, n)
	}
	if len(b.items) == 0 {
		return nil
	}
	b.all = b.items
	return b
}

// togetherLocked is the lane and those others of its realm that are ready too, if
// CDC can be asked about all of them.
func (l *lanes) togetherLocked(n *lane) []*lane {
	together := []*lane{n}
	if !l.recentLocked(n) {
		return together
	}
	for _, other := range n.realm.lanes {
		ready := !other.busy && (other.asked || time.Until(other.due) <= 0)
		if other != n && ready && l.recentLocked(other) {
			together = append(together, other)
		}
	}
	return together
}

const (
	// CDC is asked about several entity types at once if all they wait for happened
	// so lately: it answers with everything since.
	togetherSince = 10 * time.Minute
	// togetherItems bounds it by how many of an entity type there are: many are a
	// Query's business, and a sign that CDC would have too much to say.
	togetherItems = 100
)

// recentLocked reports whether all that waits in the lane was told by webhooks of
// late, about an entity that CDC knows.
func (l *lanes) recentLocked(n *lane) bool {
	if !n.known || !n.info.CDC || len(n.waiting) == 0 || len(n.waiting) > togetherItems {
		return false
	}
	since := l.now().Add(-togetherSince)
	for _, it := range n.waiting {
		for _, u := range it.units {
			if !u.webhook() || u.when().Before(since) {
				return false
			}
		}
	}
	return true
}

// drawLocked moves items of the lane into the batch.
func (l *lanes) drawLocked(b *batch, n *lane) {
	before := len(b.items)
	for _, queue := range []*[]*item{&n.live, &n.backfill} {
		for len(*queue) > 0 && len(b.items) < l.batch {
			it := (*queue)[0]
			(*queue)[0] = nil // the array may live on
			*queue = (*queue)[1:]
			if it.taken {
				continue
			}
			it.taken = true
			delete(n.waiting, it.ref.ID)
			b.items = append(b.items, it)
		}
	}
	if len(b.items) > before {
		n.busy, n.due = true, time.Now().Add(l.window)
		b.lanes = append(b.lanes, n)
	}
}

// done looks at the lanes again that the batch was of, and at the one that asked.
func (l *lanes) done(ctx context.Context, n *lane, b *batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b != nil {
		for _, n := range b.lanes {
			n.busy = false
			l.wakeLocked(ctx, n)
		}
	}
	l.wakeLocked(ctx, n)
}

// newest is the unit that happened last. A webhook wins over a scan of the same
// second: it names the operation.
func newest(units []*unit) *unit {
	last := units[0]
	for _, u := range units[1:] {
		a, b := last.when().Unix(), u.when().Unix()
		if b > a || b == a && (u.when().After(last.when()) || u.version == 0 && last.version > 0) {
			last = u
		}
	}
	return last
}

// earliest is the unit that was received first: it says how the change was
// learned, and when.
func earliest(units []*unit) *unit {
	first := units[0]
	for _, u := range units[1:] {
		if u.received().Before(first.received()) {
			first = u
		}
	}
	return first
}

// live reports whether somebody waits for the batch.
func (b *batch) live() bool {
	for _, it := range b.items {
		for _, u := range it.units {
			if u.webhook() {
				return true
			}
		}
	}
	return false
}
