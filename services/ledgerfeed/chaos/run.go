package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	store "github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// run is one plant, one load and one schedule.
type run struct {
	o         Options
	seed      uint64
	dir       string
	speed     float64       // of Intuit's clock
	scans     time.Duration // interval
	plan      []planned
	plant     *plant
	load      *load
	cursors   *cursors
	sampler   *sampler
	begun     time.Time
	loadBegun time.Time

	mu         sync.Mutex // guards the rest
	copies     int
	active     int
	inflicted  int // faults that were to begin so far
	faults     int // that began
	kills      int
	made       map[string]bool // faults that began, by name
	effects    effects
	disrupted  int // how many may have repeated a delivery
	lastEnd    time.Time
	badEnds    []string
	forgeries  []string // that were not refused
	forged     int
	unfit      []string // faults this machine does not permit
	failed     []string // faults that could not be made, and why
	recovery   time.Duration
	differs    map[string]difference // by sink, at the end
	undrained  string
	unanswered []string // I2 before the last scans
	judgedI2   bool
	stuck      []string // I9: what a full stream held up
	refusals   int      // calls of CDC that were refused for one entity
	unbounded  []string // I16: what was asked for though it was refused
	refreshed  []string // I7: refreshes that a 401 to a good token led to
	// unauthorized are the companies whose good tokens were answered by 401.
	unauthorized map[string]bool
	unreported   []string // what a service did not say of a server that was wrong
	unhealed     []string // what of the list and the schedule did not come back
	rewinds      []rewind
	// ended are records of which a dead letter was requeued or purged, purged those of
	// the latter: only a full load brings them.
	ended, purged map[sink.Ref]bool
	loading       bool // a full load was asked for: nothing is excused any more
	// before are the differences that were left when the full load was asked for.
	before map[string]difference

	tombstones *tombstones
}

// never is an interval that no run lives to see.
const never = 24 * time.Hour

func newRun(o Options, seed uint64, dir string, bin binaries) (*run, error) {
	rng := rand.New(rand.NewPCG(seed, 0xb00c))
	r := &run{
		o: o, seed: seed, dir: dir, speed: choose(rng, []float64{10, 20, 30}), scans: choose(rng, []time.Duration{4 * time.Second, 8 * time.Second, never}),
		begun: time.Now(), differs: map[string]difference{},
		made: map[string]bool{}, unauthorized: map[string]bool{}, ended: map[sink.Ref]bool{}, purged: map[sink.Ref]bool{},
	}
	if m, ok := mutants[o.Mutant]; ok {
		r.speed, r.scans = m.speed, m.scans
	}
	kind := o.redisKind(seed)
	r.plan = schedule(seed, o.For, fitting(o.faults(), kind))
	j, err := newJournal(filepath.Join(dir, "run.jsonl"))
	if err != nil {
		return nil, err
	}
	r.plant = &plant{dir: dir, journal: j, bin: bin, mutant: o.Mutant, redis: kind}
	for _, p := range r.plan {
		r.plant.steers = r.plant.steers || p.steers
		r.plant.pools = r.plant.pools || p.pools
	}
	r.plant.journals = append(r.plant.journals, j)
	r.plant.scanEvery.Store(int64(r.scans))
	return r, nil
}

// do runs it to the end. An error means that it could not be run; what it found is
// in the result.
func (r *run) do(ctx context.Context) (Result, error) {
	r.note("run", "", fmt.Sprintf("seed %d, Intuit's clock ×%v, scans every %s, Redis: %s", r.seed, r.speed, r.scans, r.plant.redis))
	for _, p := range r.plan {
		r.note("plan", p.name, fmt.Sprintf("at %s for %s", p.at.Round(time.Millisecond), p.length.Round(time.Millisecond)))
	}
	stop, err := r.open(ctx)
	defer stop()
	if err != nil {
		return Result{}, err
	}
	if err := r.trouble(ctx); err != nil {
		return Result{}, err
	}
	if err := r.settle(ctx); err != nil {
		return Result{}, err
	}
	result, err := r.judge(ctx)
	stop()
	if err != nil {
		return result, err
	}
	for _, name := range r.plant.drain() {
		r.badEnd(name)
	}
	r.judgeAfter(&result)
	return result, ctx.Err()
}

// open starts the plant and those who watch it, and returns when the sinks are as
// the books. stop ends the watching; it may be called twice.
func (r *run) open(ctx context.Context) (stop func(), err error) {
	watching, cancel := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	stop = func() { cancel(); watchers.Wait() }
	if err := r.plant.open(ctx, r.o, r.seed, r.speed); err != nil {
		return stop, err
	}
	changes, err := r.plant.openJournal("changes")
	if err != nil {
		return stop, err
	}
	r.load = &load{
		books: r.plant.books, realms: r.plant.realms[:len(r.plant.realms)-1], rate: r.o.Rate, journal: changes,
		rng: rand.New(rand.NewPCG(r.seed, 0x10ad)),
	}
	r.cursors, r.sampler, r.tombstones = newCursors(r.plant), newSampler(r.plant), newTombstones(r.plant)
	if slices.ContainsFunc(r.plan, func(p planned) bool { return p.effects.hides }) {
		r.cursors.ahead = maxReadLag - cursorMargin
	}
	r.plant.endpoint.watch(r.tombstones)
	r.plant.books.alter(func(f *qbosim.Faults) { f.Latency = max(baseLatency, mutants[r.o.Mutant].latency) })
	watchers.Go(func() { r.cursors.run(watching) })
	watchers.Go(func() { r.sampler.run(watching) })
	watchers.Go(func() { r.tombstones.run(watching) })
	watchers.Go(func() { r.progress(watching) })
	watchers.Go(func() { r.attend(watching) })
	watchers.Go(func() { r.approve(watching) })
	watchers.Go(func() { _ = r.plant.books.Run(watching) })
	if err := r.awaitEqual(ctx, false); err != nil {
		return stop, fmt.Errorf("before any fault the feed does not settle: %w", err)
	}
	return stop, nil
}

// trouble is the load with the faults.
func (r *run) trouble(ctx context.Context) error {
	r.note("load", "", "begins")
	r.loadBegun = time.Now()
	forging, stop := context.WithCancel(ctx)
	defer stop()
	var all sync.WaitGroup
	begun := time.Now()
	for _, p := range r.plan {
		all.Go(func() {
			if lifecycle.Sleep(ctx, time.Until(begun.Add(p.at))) == nil {
				r.inflict(ctx, p)
			}
		})
	}
	var forgers sync.WaitGroup
	forgers.Go(func() { r.forge(forging) })
	err := r.load.run(ctx, r.o.For)
	all.Wait()
	stop()
	forgers.Wait()
	r.note("load", "", fmt.Sprintf("is over: %d changes", r.load.count()))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lastEnd.IsZero() {
		r.lastEnd = time.Now()
	}
	return err
}

// endWait bounds how long a fault may take to end.
const endWait = time.Minute

func (r *run) inflict(ctx context.Context, p planned) {
	rng := rand.New(rand.NewPCG(p.seed, 0xfa17))
	r.mu.Lock()
	r.active++
	r.inflicted++
	r.effects = r.effects.and(p.effects)
	r.mu.Unlock()
	end, about, err := p.begin(ctx, r, rng)
	r.note("fault", p.name, "begins: "+about)
	r.mu.Lock()
	switch {
	case errors.Is(err, errNotPermitted):
		r.unfit = append(r.unfit, p.name)
	case err != nil:
		r.failed = append(r.failed, p.name+": "+err.Error())
	default:
		r.faults++
		r.made[p.name] = true
		r.kills += p.kills
		if p.effects.repeats || p.effects.forgets || p.effects.withholds {
			r.disrupted++
		}
	}
	r.mu.Unlock()
	if err == nil {
		_ = lifecycle.Sleep(ctx, p.length)
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWait)
		err = end(ending)
		cancel()
	}
	text := "ends"
	if err != nil {
		text = "fails: " + err.Error()
	}
	r.note("fault", p.name, text)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active--
	r.lastEnd = time.Now()
}

// forge sends what nobody may take, from time to time.
func (r *run) forge(ctx context.Context) {
	for n := 0; lifecycle.Sleep(ctx, 1500*time.Millisecond) == nil; n++ {
		body := fmt.Appendf(nil, `[{"specversion":"1.0","id":"forged-%d","type":"qbo.invoice.updated.v1","time":"2026-11-23T10:20:29.000Z","intuitentityid":"forged%d","intuitaccountid":"%s","data":{}}]`,
			n, n, r.plant.realms[0])
		for _, status := range r.plant.front.forge(ctx, body) {
			r.mu.Lock()
			r.forged++
			if status >= 200 && status < 300 {
				r.forgeries = append(r.forgeries, fmt.Sprintf("forged body %d was answered %d", n, status))
			}
			r.mu.Unlock()
		}
	}
}

// attend is a person who connects a company again whose new refresh token was lost on
// the way to us: Intuit has replaced the old one, and nobody knows the new one.
func (r *run) attend(ctx context.Context) {
	for lifecycle.Sleep(ctx, time.Second) == nil {
		for _, realm := range r.plant.realms {
			c, err := r.plant.connections.Get(ctx, realm)
			refused := c.State == connection.ReauthRequired || c.Refusal != nil
			if err != nil || !refused || !r.tokenLost(realm) {
				continue
			}
			r.mu.Lock()
			r.effects.lapses = true
			r.mu.Unlock()
			err = until(ctx, func(ctx context.Context) error { return r.plant.consent(ctx, realm) })
			r.note("person", realm, fmt.Sprintf("its new token was lost on the way, it is connected again: %v", err))
		}
	}
}

// tokenLost reports whether nobody may know the new token of a company: it was lost on the
// way, or with the last writes of a master of Redis.
func (r *run) tokenLost(realm string) bool {
	if r.plant.books.TokenUnheard(realm) {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.made["redis-failover"]
}

// approve is a person who looks at deletions that a scan held back (docs/operations.md):
// those of records that are gone are approved, others are rejected.
func (r *run) approve(ctx context.Context) {
	for lifecycle.Sleep(ctx, time.Second) == nil {
		all, err := r.plant.state.HeldDeletions(ctx)
		if err != nil {
			continue // Redis is away
		}
		for _, h := range all {
			if h.State != store.DeletionHeld {
				continue
			}
			decide, word := r.plant.state.ApproveDeletion, "approved"
			for _, id := range h.Sample {
				if alive, _ := r.plant.books.alive(sink.Ref{Realm: h.Realm, Entity: h.Entity, ID: id}); alive {
					decide, word = r.plant.state.RejectDeletion, "rejected"
				}
			}
			_, err := decide(ctx, h.Realm, h.Entity, "chaos")
			r.note("person", h.Realm, fmt.Sprintf("%d of %d deletions of %s are %s: %v", h.Count, h.Of, h.Entity, word, err))
		}
	}
}

// scratch is a new directory that is not there yet.
func (r *run) scratch() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.copies++
	return filepath.Join(r.dir, fmt.Sprintf("copy-%d", r.copies))
}

// calm is a number that stays the same while no other fault is in force than the one
// that asks; 0 if another is.
func (r *run) calm() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.active > 1 {
		return 0
	}
	return 1 + r.inflicted
}

func (r *run) badEnd(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.badEnds = append(r.badEnds, name)
	r.note("fault", name, "did not end well after SIGTERM")
}

func (r *run) note(kind, about, text string) { r.plant.journal.note(kind, about, text) }

// progress prints a line from time to time.
func (r *run) progress(ctx context.Context) {
	for lifecycle.Sleep(ctx, 5*time.Second) == nil {
		deliveries := r.plant.endpoint.count()
		r.mu.Lock()
		fmt.Fprintf(r.o.Stderr, "seed %d  %4s  changes %d · faults %d, %d in force · kills %d · bodies stored %d · deliveries %d\n",
			r.seed, time.Since(r.begun).Round(time.Second), r.load.count(), r.faults, r.active, r.kills, r.plant.front.count(200), deliveries)
		r.mu.Unlock()
	}
}

// Run makes the runs and says what came of them. The error says why it could not,
// was interrupted, or that a run was no success: then what it found is printed.
func Run(ctx context.Context, o Options) (Summary, error) {
	sum := newSummary()
	if err := o.Validate(); err != nil {
		return sum, err
	}
	say := func(format string, a ...any) {
		if !o.JSON {
			fmt.Fprintf(o.Stdout, format+"\n", a...)
		}
	}
	bin, err := build(ctx, o.Beside, say)
	if err != nil {
		return sum, err
	}
	var failed []string
	for i := range o.Runs {
		seed := o.Seed + uint64(i)
		result, err := one(ctx, o, seed, bin)
		if ctx.Err() != nil {
			return sum, ctx.Err()
		}
		if err != nil {
			return sum, fmt.Errorf("seed %d: %w", seed, err)
		}
		sum.add(result)
		say("%s", result)
		if o.Keep {
			say("its files are in %s", result.Dir)
		}
		if !result.Good() {
			failed = append(failed, fmt.Sprint(seed))
			fmt.Fprintf(o.Stderr, "seed %d failed; its files are in %s; repeat it by\n  %s\n", seed, result.Dir, o.command(seed))
		}
	}
	if len(failed) > 0 {
		return sum, fmt.Errorf("%d of %d runs failed: seed %s", len(failed), o.Runs, strings.Join(failed, ", "))
	}
	return sum, nil
}

func one(ctx context.Context, o Options, seed uint64, bin binaries) (result Result, err error) {
	dir, err := os.MkdirTemp(o.Dir, fmt.Sprintf("ledgerfeed-chaos-%d-", seed))
	if err != nil {
		return result, err
	}
	// PostgreSQL, which does not run as root, must find its way.
	if err := os.Chmod(dir, 0o755); err != nil {
		return result, err
	}
	if m, ok := mutants[o.Mutant]; ok {
		m.adjust(&o)
	}
	r, err := newRun(o, seed, dir, bin)
	if err != nil {
		return result, err
	}
	result, err = r.do(ctx)
	result.Dir = dir
	if err != nil || o.Keep || !result.Good() {
		r.writeTruth(result)
	}
	closed := r.plant.close()
	if err != nil {
		return result, fmt.Errorf("%w (its files are in %s)", errors.Join(err, closed), dir)
	}
	if closed != nil {
		return result, fmt.Errorf("end the plant: %w", closed)
	}
	if result.Good() && !o.Keep {
		err = os.RemoveAll(dir)
	}
	return result, err
}
