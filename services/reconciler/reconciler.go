package reconciler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/ledgerfeed/ledgerfeed/pkg/access"
	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// Options are what the program passes to New. All but Usage, Logger, Registerer, Tracer and
// Now are required.
type Options struct {
	Config      ReconcilerConfig
	Stream      *stream.Conn
	State       *state.Store
	QBO         *qbo.Client
	Connections *connection.Store
	// Usage says how many calls the app has made this month; nil: nobody counts.
	// State.Budget(n).Usage is one.
	Usage      func(ctx context.Context) (state.Usage, error)
	Logger     *zap.Logger
	Registerer prometheus.Registerer
	// Now is the clock of this process; it measures how much time has passed. What time
	// it is all replicas learn from Redis, and what a scan covers is told by Intuit.
	Now func() time.Time
	// Tracer makes a trace of each scan, in which its changes are delivered; nil makes
	// none.
	Tracer trace.Tracer
}

// Reconciler scans realms. Make one with New; it is safe for concurrent use.
type Reconciler struct {
	config      ReconcilerConfig
	stream      *stream.Conn
	state       *state.Store
	client      *qbo.Client
	connections *connection.Store
	guard       *access.Guard
	log         *zap.Logger
	metrics     *metrics
	clock       *state.SharedClock
	now         func() time.Time // of clock
	verifier    *verifier
	members     *state.Members
	usage       func(ctx context.Context) (state.Usage, error)
	tracer      trace.Tracer
	rooms       *semaphore.Weighted // bytes of pages in memory

	mu      sync.Mutex             // guards the rest
	realms  map[string]*realmState // what this process has learned of a realm
	leaders []string               // by shard; nil until the replicas are known
	beat    time.Time              // when the ingress was last heard
	exports time.Time              // gaps are not exported before that
	// unrepaired is since when an outage lasts of which it was logged that nothing can be
	// scanned.
	unrepaired time.Time
	// recordsRead is when heal last looked for the records of connections.
	recordsRead time.Time
}

// realmState is what one process remembers of a realm to save calls and
// repeated warnings; losing it costs no more than those.
type realmState struct {
	parked   bool
	failures int       // scans failed in a row
	oldest   time.Time // its oldest cursor but for those of refused entities; zero: none
	refused  []string
}

// New makes a reconciler. It opens nothing and starts nothing.
func New(o Options) (*Reconciler, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	if o.Stream == nil || o.State == nil || o.QBO == nil || o.Connections == nil {
		return nil, errors.New("reconciler: Stream, State, QBO and Connections are required")
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &Reconciler{
		config:      o.Config,
		stream:      o.Stream,
		state:       o.State,
		client:      o.QBO,
		connections: o.Connections,
		log:         o.Logger,
		clock:       state.NewSharedClock(o.Now),
		members:     o.State.Members("reconciler", o.Logger),
		usage:       o.Usage,
		tracer:      o.Tracer,
		rooms:       newRooms(o.Config.Realms),
		realms:      map[string]*realmState{},
	}
	r.now = r.clock.Now
	r.guard = access.New(access.Options{State: o.State, Connections: o.Connections, QBO: o.QBO, Logger: o.Logger, Now: o.Now})
	r.verifier = newVerifier(r)
	r.metrics = newMetrics(o.Registerer, r.verifier.open, r.lag, r.silence)
	return r, nil
}

// Request asks for a scan now.
type Request struct {
	// Realms to scan; nil means all connected ones.
	Realms []string
	// Entities to scan, by canonical name; nil means all that are configured.
	Entities []string
	// Load reads everything from the beginning instead of from the cursors, which
	// stay where they are until it is done.
	Load bool
	// Progress is told now and then how far the scan of a realm is, from one goroutine
	// a realm; nil is nobody.
	Progress func(realm string, p state.JobProgress)
	// Grace leaves changes younger than this, by Intuit's clock, to their
	// webhooks. Zero leaves none, whatever the configuration says, and says
	// that the API shows all there is: a delivered record that a Query does not
	// show then counts as deleted, however young it is.
	Grace time.Duration
	// Wait returns only when all that was missing is delivered and the cursors
	// have moved, a scan is given up, or the context ends.
	Wait bool
}

// Report says what the scans of a Request found.
type Report struct {
	// Realms is how many were scanned.
	Realms int
	// Parked are the realms left out because their authorisation has lapsed, a person has
	// parked them, or Intuit refuses them.
	Parked []string
	// Calls is the number of API calls made, failed ones included.
	Calls int
	// Items is the number of records seen, those delivered already included.
	Items int
	// MissingCDC and MissingQuery count the changes that some sink lacked, by
	// what found them.
	MissingCDC, MissingQuery int
	// Verified counts the scanned realms of which all that was missing is
	// delivered, Unverified the others; without Wait a realm that lacked
	// something is unverified.
	Verified, Unverified int
	// Incomplete holds, by realm, the entities that could not be read as a
	// whole: their cursors stay.
	Incomplete map[string][]string
	// Refused holds, by realm, the entities that QuickBooks refuses there, with its
	// texts: they are left out, and their cursors stay.
	Refused map[string][]state.Refusal
	// Errors holds, by realm, why its scan was given up. What was found until
	// then is published all the same.
	Errors map[string]error
}

// Reconcile scans realms now, entities that only Query can find included. A
// realm that cannot be scanned is in Report.Errors; the error is for what
// stopped the whole, such as the end of the context.
func (r *Reconciler) Reconcile(ctx context.Context, q Request) (Report, error) {
	realms := q.Realms
	if realms == nil {
		all, err := r.connections.List(ctx)
		if err != nil {
			return Report{}, fmt.Errorf("list connections: %w", err)
		}
		realms = all
	}
	var mu sync.Mutex // guards report
	report := Report{Incomplete: map[string][]string{}, Refused: map[string][]state.Refusal{}, Errors: map[string]error{}}
	var g errgroup.Group
	g.SetLimit(r.config.Realms)
	for _, realm := range realms {
		g.Go(func() error {
			out := r.demand(ctx, realm, q)
			mu.Lock()
			defer mu.Unlock()
			report.add(realm, out)
			return nil
		})
	}
	_ = g.Wait() // each realm's error is in the report
	return report, ctx.Err()
}

func (p *Report) add(realm string, out outcome) {
	switch {
	case errors.Is(out.err, errParked):
		p.Parked = append(p.Parked, realm)
		return
	case out.err != nil:
		p.Errors[realm] = out.err
	}
	p.Realms++
	p.Calls += out.calls
	p.Items += out.items
	p.MissingCDC += out.missingCDC
	p.MissingQuery += out.missingQuery
	if len(out.incomplete) > 0 {
		p.Incomplete[realm] = out.incomplete
	}
	if len(out.refusals) > 0 {
		p.Refused[realm] = out.refusals
	}
	if out.err == nil && out.verified {
		p.Verified++
	} else {
		p.Unverified++
	}
}

// known returns what this process remembers of the realm.
func (r *Reconciler) known(realm string) *realmState {
	s, ok := r.realms[realm]
	if !ok {
		s = &realmState{}
		r.realms[realm] = s
	}
	return s
}

// learn changes what this process remembers of the realm.
func (r *Reconciler) learn(realm string, change func(*realmState)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r.known(realm))
}
