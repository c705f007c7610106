package processor_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

const replicas = 3

// cluster is a bundle with replicas, each with connections of its own. One that
// dies is followed by another at once.
type cluster struct {
	*bundle
	places  [2]*place
	crashes atomic.Int64
	failing atomic.Int64 // how many writes are still to fail
	armed   chan crash   // for whoever writes next
	wrote   chan struct{}
	resume  chan struct{}
	slots   [replicas]atomic.Pointer[member]
	played  int

	mu    sync.Mutex // guards calls
	calls []string   // the last ones of all replicas
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{bundle: setup(t), places: [2]*place{newPlace("a"), newPlace("b")}, armed: make(chan crash, 100), wrote: make(chan struct{}, 1), resume: make(chan struct{})}
	c.config.AckWait, c.config.DrainTimeout = time.Second, time.Second
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var supervisors sync.WaitGroup
	for slot := range c.slots {
		supervisors.Go(func() { c.supervise(ctx, slot) })
	}
	t.Cleanup(func() {
		stop()
		supervisors.Wait()
	})
	return c
}

// supervise starts a replica, and another one when it is over.
func (c *cluster) supervise(ctx context.Context, slot int) {
	for ctx.Err() == nil {
		life, stop := context.WithCancel(ctx)
		r, err := c.open(life)
		if err == nil {
			r.stop = stop
			c.slots[slot].Store(r)
			err = errors.Join(r.Run(life), r.close())
		}
		stop()
		if err != nil && ctx.Err() == nil && (r == nil || !r.down.Load()) {
			c.t.Errorf("replica %d: %v", slot, err)
			return
		}
	}
}

// crash is when a replica dies.
type crash int32

const (
	atOnce      crash = iota + 1
	beforeWrite       // it was about to write
	halfWritten       // some changes of a batch, not the others
	beforeMark        // written, not marked
	beforeAck         // written and marked, not acked: only the broker is out of reach
	lastCrash   = beforeAck
	stalled     = lastCrash + 1 // the broker is out of reach, and the write takes until resume is closed
)

// crash kills the replica of the slot at once, or whoever writes next: that of the
// slot may never write, as each realm has a replica that leads it.
func (c *cluster) crash(slot int, when crash) {
	if when == atOnce {
		if r := c.slots[slot].Load(); r != nil { // else it is not up yet
			r.die()
		}
		return
	}
	select {
	case c.armed <- when:
	default:
	}
}

// stop ends the replica of the slot in good order.
func (c *cluster) stop(slot int) {
	if r := c.slots[slot].Load(); r != nil {
		r.stop()
	}
}

// begin connects the realms of a sequence, and forgets the one before.
func (c *cluster) begin(realms ...string) {
	for _, p := range c.places {
		p.forget()
	}
	for _, realm := range realms {
		c.connect(realm)
	}
}

// disarm takes what is to happen at the next write; 0 is nothing.
func (c *cluster) disarm() crash {
	select {
	case when := <-c.armed:
		return when
	default:
		return 0
	}
}

// calm lets nothing more go wrong than has.
func (c *cluster) calm() {
	c.failing.Store(0)
	for c.disarm() != 0 {
	}
}

// wait gives the replicas time to write something.
func (c *cluster) wait() {
	select {
	case <-c.wrote:
	case <-time.After(20 * time.Millisecond):
	}
}

// member is a replica: one process of the service, as far as others can tell.
type member struct {
	*processor.Processor
	c     *cluster
	store *state.Store
	conn  *stream.Conn
	down  atomic.Bool // the broker is out of reach for good
	dead  atomic.Bool // and so is everything else
	stop  func()

	mu   sync.Mutex // guards last
	last map[string]int64
}

func (c *cluster) open(ctx context.Context) (*member, error) {
	r := &member{c: c, last: map[string]int64{}}
	var err error
	if r.store, err = state.Open(ctx, state.Options{Config: state.Config{URL: secret.String(c.redisURL)}, Now: c.clock.Now}); err != nil {
		return nil, err
	}
	cfg := stream.DefaultConfig()
	cfg.URL, cfg.Profile = c.natsURL, "dev"
	if r.conn, err = stream.Connect(ctx, stream.Options{Config: cfg, Name: "replica"}); err != nil {
		return nil, errors.Join(err, r.store.Close())
	}
	connections := c.openConnections(r.store)
	client, err := qbo.New(qbo.Options{BaseURL: c.api.URL, Tokens: connections, Limiter: r.store.Limiter(unlimited), HTTP: &http.Client{Transport: line{r}}})
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	r.Processor, err = processor.New(processor.Options{
		Config: c.config, Stream: r.conn, State: r.store, QBO: client, Connections: connections,
		Sinks: []processor.Sink{outlet{r, c.places[0]}, outlet{r, c.places[1]}}, Now: c.clock.Now,
	})
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	r.SetPatience(time.Millisecond, 4)
	return r, nil
}

func (r *member) close() error {
	r.conn.Close()
	if r.dead.Load() {
		return nil // closed already
	}
	return r.store.Close()
}

// die is a kill -9 as the others see it: nothing is marked, acked or given back.
func (r *member) die() {
	if r.dead.Swap(true) {
		return
	}
	r.cut()
	r.store.Close()
}

// cut takes the broker away for good.
func (r *member) cut() {
	if !r.down.Swap(true) {
		r.c.crashes.Add(1)
	}
	r.conn.Close()
}

var errDead = errors.New("the process is dead")

// line is the way of a replica to QuickBooks.
type line struct{ r *member }

func (l line) RoundTrip(req *http.Request) (*http.Response, error) {
	if l.r.dead.Load() {
		return nil, errDead
	}
	l.r.c.note(fmt.Sprintf("%s replica %p, cut off %t, in hand %d: %s %s", time.Now().Format("05.000"), l.r, l.r.down.Load(), l.r.InHand(), req.URL.Path, req.URL.Query()))
	return http.DefaultTransport.RoundTrip(req)
}

const callsNoted = 50

func (c *cluster) note(call string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls = append(c.calls, call); len(c.calls) > callsNoted {
		c.calls = c.calls[1:]
	}
}

// last are the last n calls of a realm that were noted.
func (c *cluster) last(realm string, n int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var of []string
	for _, call := range c.calls {
		if strings.Contains(call, "/company/"+realm+"/") {
			of = append(of, call)
		}
	}
	return strings.Join(of[max(0, len(of)-n):], "\n")
}

// outlet is a sink of a replica, before a place that all of them share.
type outlet struct {
	r *member
	*place
}

func (o outlet) Close() error { return nil }

func (o outlet) Write(_ context.Context, changes []*ledgerfeedv1.Change) error {
	if o.r.dead.Load() {
		return errDead
	}
	when := o.r.c.disarm()
	switch {
	case o.r.c.failing.Add(-1) >= 0:
		return errors.New("not now")
	case when == beforeWrite:
		o.r.die()
		return errDead
	case when == halfWritten:
		o.take(changes[:len(changes)/2])
		o.r.die()
		return errDead
	case when == stalled:
		o.r.cut()
		<-o.r.c.resume
	}
	o.take(changes)
	switch when {
	case beforeMark:
		o.r.die()
	case beforeAck:
		o.r.cut()
	}
	return nil
}

// take writes. Within a process no version of an entity follows a newer one.
func (o outlet) take(changes []*ledgerfeedv1.Change) {
	o.r.mu.Lock()
	defer o.r.mu.Unlock()
	for _, c := range changes {
		key := fmt.Sprint(o.name, refOf(c))
		if c.GetVersion() < o.r.last[key] {
			o.complain("I3: %s was given %v at %d after %d by one process", o.name, refOf(c), c.GetVersion(), o.r.last[key])
		}
		o.r.last[key] = c.GetVersion()
		o.keep(c)
	}
	select {
	case o.r.c.wrote <- struct{}{}:
	default:
	}
}

// place is what a sink writes to. As a database does, it keeps the newest version
// whatever order they come in: two replicas may be at one entity at a time.
type place struct {
	name string

	mu       sync.Mutex // guards the rest
	held     map[qbosim.Ref]*ledgerfeedv1.Change
	effects  map[string]int    // by idempotency key
	versions map[string]string // idempotency key by document
	wrong    []string
}

func newPlace(name string) *place {
	p := &place{name: name}
	p.forget()
	return p
}

func (p *place) Name() string { return p.name }

func (p *place) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held, p.effects, p.versions, p.wrong = map[qbosim.Ref]*ledgerfeedv1.Change{}, map[string]int{}, map[string]string{}, nil
}

func (p *place) complain(format string, a ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrong = append(p.wrong, fmt.Sprintf(format, a...))
}

func (p *place) keep(c *ledgerfeedv1.Change) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := sink.KeyOf(c)
	p.effects[key]++
	if !c.GetDeleted() {
		document := fmt.Sprint(refOf(c), string(c.GetDocument()))
		if other, ok := p.versions[document]; ok && other != key {
			p.wrong = append(p.wrong, fmt.Sprintf("I5: %s was given one document as %s and as %s", p.name, other, key))
		}
		p.versions[document] = key
	}
	if held := p.held[refOf(c)]; held.GetVersion() < c.GetVersion() {
		p.held[refOf(c)] = c
	}
}

// report is what was seen that must not be, and how often each change was taken.
func (p *place) report() (wrong []error, effects map[string]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.wrong {
		wrong = append(wrong, errors.New(w))
	}
	return wrong, maps.Clone(p.effects)
}

func (p *place) newest(ref qbosim.Ref) *ledgerfeedv1.Change {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held[ref]
}

func (p *place) refs(realm string) (refs []qbosim.Ref) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ref := range p.held {
		if ref.Realm == realm {
			refs = append(refs, ref)
		}
	}
	slices.SortFunc(refs, func(a, b qbosim.Ref) int { return strings.Compare(a.Entity+a.ID, b.Entity+b.ID) })
	return refs
}
