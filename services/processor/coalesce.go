package processor

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// lanes hold what waits to be delivered: a lane for each realm and entity type
// that has something, worked through by one goroutine of its own.
type lanes struct {
	window   time.Duration
	batch    int
	perRealm int64
	parallel *semaphore.Weighted
	deliver  func(context.Context, *batch)

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
	entity   string
	waiting  map[string]*item
	live     []*item
	backfill []*item
}

// item is one entity with all that is known to have happened to it since it was
// last taken out of its lane.
type item struct {
	ref   state.Ref
	units []*unit
	live  bool
	taken bool

	// What the steps found out, see there.
	lacking sinkSet      // dedupe
	marks   []state.Mark // dedupe, by sink
	verdict verdict      // hydrate
	failed  []error      // write, by sink
}

// batch is what is taken through the steps together.
type batch struct {
	realm string
	info  entity.Info // Name alone if the table does not hold the entity
	known bool
	all   []*item
	items []*item // those that some step still has to look at
}

func newLanes(c ProcessorConfig, deliver func(context.Context, *batch)) *lanes {
	return &lanes{
		window: c.CoalesceWindow, batch: c.BatchSize, perRealm: int64(c.RealmParallel),
		parallel: semaphore.NewWeighted(int64(c.Parallel)),
		deliver:  deliver, realms: map[string]*realm{},
	}
}

// add queues the units of one message and starts the lanes that were idle.
func (l *lanes) add(ctx context.Context, units []*unit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, u := range units {
		id := u.from.env.GetRealmId()
		r := l.realms[id]
		if r == nil {
			r = &realm{id: id, slots: semaphore.NewWeighted(l.perRealm), lanes: map[string]*lane{}}
			l.realms[id] = r
		}
		n := r.lanes[u.entity]
		if n == nil {
			n = &lane{realm: r, entity: u.entity, waiting: map[string]*item{}}
			r.lanes[u.entity] = n
			l.working.Go(func() { l.work(ctx, n) })
		}
		n.addLocked(u)
	}
}

func (n *lane) addLocked(u *unit) {
	it := n.waiting[u.id]
	if it == nil {
		it = &item{ref: state.Ref{Entity: u.entity, ID: u.id}}
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

// work delivers until the lane is empty. The first batch waits for the window;
// later ones gathered while the one before was under way.
func (l *lanes) work(ctx context.Context, n *lane) {
	pause(ctx, l.window)
	for {
		// After the end of ctx there is no slot to wait for: what is left fails
		// at once and goes back to the broker.
		release := l.slot(ctx, n.realm)
		b := l.take(n)
		if b != nil {
			l.deliver(ctx, b)
		}
		release()
		if b == nil {
			return
		}
	}
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

// take takes the next batch out of the lane, or, if it is empty, the lane out
// of the realm.
func (l *lanes) take(n *lane) *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	var items []*item
	for _, queue := range []*[]*item{&n.live, &n.backfill} {
		for len(*queue) > 0 && len(items) < l.batch {
			it := (*queue)[0]
			(*queue)[0] = nil // the array may live on
			*queue = (*queue)[1:]
			if it.taken {
				continue
			}
			it.taken = true
			delete(n.waiting, it.ref.ID)
			items = append(items, it)
		}
	}
	if len(items) == 0 {
		delete(n.realm.lanes, n.entity)
		if len(n.realm.lanes) == 0 {
			delete(l.realms, n.realm.id)
		}
		return nil
	}
	info, known := entity.Lookup(n.entity)
	if !known {
		info = entity.Info{Name: n.entity}
	}
	return &batch{realm: n.realm.id, info: info, known: known, all: items, items: items}
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
			if u.source() == ledgerfeedv1.Source_SOURCE_WEBHOOK {
				return true
			}
		}
	}
	return false
}

// pause returns after d, or when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
