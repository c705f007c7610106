package audit

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
)

// The verdicts.
const (
	NoGap       = "no-gap"
	Gaps        = "gaps"
	CountsAgree = "counts-agree" // only they were compared: see Options.Quick
	Incomplete  = "incomplete"   // not all could be compared
	Unavailable = "unavailable"  // the company's QuickBooks has no such entity
)

// DefaultGrace is what scans leave to Intuit's replicas, too.
const DefaultGrace = 2 * time.Minute

// ErrMaxCalls says that Options.MaxCalls were made; what was compared by then stands.
var ErrMaxCalls = errors.New("the calls allowed are used up")

// Table is the sink, as the Postgres sink is.
type Table interface {
	Alive(ctx context.Context, realm, entity string) (int, error)
	Versions(ctx context.Context, realm, entity string, ids []string) (map[string]sink.Row, error)
	Documents(ctx context.Context, realm, entity string, ids []string) (map[string]string, error)
	Each(ctx context.Context, realm, entity string, visit func(id string, row sink.Row) error) error
	KeepAudit(ctx context.Context, a postgres.Audit) error
}

// Options are what to audit, and with what. State, QBO, Table, Sink and Realms are
// required, Stream for a repair.
type Options struct {
	State  *state.Store
	QBO    *qbo.Client
	Stream *stream.Conn
	Table  Table
	Sink   string // its name in the marks

	Realms []string
	// Entities are names as the API spells them; none is all that the feed delivers. One
	// that a company's QuickBooks does not know gets the verdict Unavailable then.
	Entities []string
	// Quick compares records only where the counts differ. Equal counts prove little:
	// one record may be missing and another be one too many, and none be up to date.
	Quick bool
	// Content compares the documents too, by their hashes. It costs no call more.
	Content bool
	// Repair publishes what is missing, stale or too many, and waits for RepairWait
	// until the sink has it.
	Repair bool
	// MaxCalls bounds the calls of the API; 0 is no bound but the month's budget.
	MaxCalls int
	// SkipYounger leaves out what has a verdict of NoGap that is younger; 0 is none. So
	// an audit that was interrupted goes on.
	SkipYounger time.Duration
	// Grace is how far a verdict stays behind Intuit's clock: what was written in the
	// last moments may not show everywhere yet, and its webhook is on its way.
	// [DefaultGrace] is safe; 0 is for a feed at rest.
	Grace time.Duration
	// Parallel is how many realms are compared at a time; 0 is 4.
	Parallel int

	// Settle is how long to wait for changes that are on their way; 0 is 30 s.
	Settle time.Duration
	// RepairWait is how long to wait for what was published; 0 is a minute.
	RepairWait time.Duration
	// Verdict is called for each verdict, one at a time, Progress after each call of
	// the API; nil is none.
	Verdict  func(state.Audit)
	Progress func(Progress)
	Now      func() time.Time // nil is time.Now
}

// Progress is how far an audit is.
type Progress struct {
	Realms, RealmsDone int
	// Records is how many there are in the realms that were counted so far, Compared
	// how many of them were read.
	Records, Compared int
	Calls             int
	// Realm and Entity are what is read at the moment, by one of those at work.
	Realm, Entity string
	// PerSecond is how many records are compared a second; Left is how long the rest of
	// the Records takes at that rate, zero if that is not known.
	PerSecond float64
	Left      time.Duration
}

// Report is what came of an audit.
type Report struct {
	Verdicts []state.Audit // in the order of realms and entities
	// Skipped is how many entities have a verdict already.
	Skipped int
	Calls   int
	// UpTo is the earliest UpTo of the verdicts; zero if one has none.
	UpTo time.Time
}

// Gaps is how many records differ.
func (r Report) Gaps() (n int) {
	for _, v := range r.Verdicts {
		n += v.Gaps()
	}
	return n
}

// Whole reports whether everything was compared and agreed, or has been repaired.
func (r Report) Whole() bool {
	return !slices.ContainsFunc(r.Verdicts, func(v state.Audit) bool {
		return v.Verdict != NoGap && v.Verdict != CountsAgree && v.Verdict != Unavailable
	})
}

// auditor is an audit under way.
type auditor struct {
	o       Options
	run     string
	started time.Time
	calls   atomic.Int64

	mu       sync.Mutex // guards the rest; Verdict and Progress are called under it
	progress Progress
	report   Report
}

// Run audits. After an error the report holds the verdicts until then: they are stored
// too, in Redis and beside the sink. It ends at the first error that concerns all, such
// as ErrMaxCalls, state.ErrBudget or the end of ctx; that a realm cannot be read is in
// its verdicts.
func Run(ctx context.Context, o Options) (Report, error) {
	a := newAuditor(o)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(a.o.Parallel)
	for _, realm := range a.o.Realms {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return a.realm(ctx, realm)
		})
	}
	err := g.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.finished(), err
}

func newAuditor(o Options) *auditor {
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	if o.Settle <= 0 {
		o.Settle = 30 * time.Second
	}
	if o.RepairWait <= 0 {
		o.RepairWait = time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Verdict == nil {
		o.Verdict = func(state.Audit) {}
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	var unique [6]byte
	_, _ = rand.Read(unique[:]) // crypto/rand does not fail
	return &auditor{
		o: o, run: fmt.Sprintf("audit-%d-%s", o.Now().UnixMilli(), hex.EncodeToString(unique[:])), started: time.Now(),
		progress: Progress{Realms: len(o.Realms)},
	}
}

func (a *auditor) finished() Report {
	r := a.report
	r.Calls = int(a.calls.Load())
	slices.SortFunc(r.Verdicts, func(x, y state.Audit) int {
		if x.Realm != y.Realm {
			return slices.Index(a.o.Realms, x.Realm) - slices.Index(a.o.Realms, y.Realm)
		}
		return strings.Compare(x.Entity, y.Entity)
	})
	first := true
	for _, v := range r.Verdicts {
		if v.Verdict == Unavailable {
			continue
		}
		if first || v.UpTo.Before(r.UpTo) {
			r.UpTo = v.UpTo
		}
		first = false
	}
	return r
}

// Entities are those that the feed delivers: all that a Query can be asked for.
func Entities() []string { return entity.Queryable() }

// Scope says what the verdicts are about, and which entities they leave out, by realm.
func (r Report) Scope() (compared, unavailable map[string][]string) {
	compared, unavailable = map[string][]string{}, map[string][]string{}
	for _, v := range r.Verdicts {
		if v.Verdict == Unavailable {
			unavailable[v.Realm] = append(unavailable[v.Realm], v.Entity)
		} else {
			compared[v.Realm] = append(compared[v.Realm], v.Entity)
		}
	}
	return compared, unavailable
}

// realm counts the entities of a realm, then compares each.
func (a *auditor) realm(ctx context.Context, realm string) error {
	names, explicit := a.o.Entities, len(a.o.Entities) > 0
	if !explicit {
		names = Entities()
	}
	known, err := a.known(ctx, realm)
	if err != nil {
		return err
	}
	var all []*comparison
	for _, name := range names {
		if known[name] {
			a.skipped()
			continue
		}
		c := &comparison{a: a, realm: realm, entity: name}
		err := c.count(ctx)
		switch {
		case !explicit && a.unavailable(ctx, realm, name, err):
			v := c.failed(err)
			v.Verdict = Unavailable
			if err := a.keep(ctx, v); err != nil {
				return err
			}
			continue
		case err != nil && a.fatal(ctx, err):
			return err
		case err != nil:
			if err := a.keep(ctx, c.failed(err)); err != nil {
				return err
			}
			continue
		}
		all = append(all, c)
	}
	for _, c := range all {
		err := c.run(ctx)
		if err != nil && a.fatal(ctx, err) {
			return err
		}
		if err != nil {
			c.verdict = c.failed(err)
		}
		if err := a.keep(ctx, c.verdict); err != nil {
			return err
		}
	}
	a.tell(func(p *Progress) { p.RealmsDone++ })
	return nil
}

// known are the entities whose verdict is young enough.
func (a *auditor) known(ctx context.Context, realm string) (map[string]bool, error) {
	known := map[string]bool{}
	if a.o.SkipYounger <= 0 {
		return known, nil
	}
	audits, err := a.o.State.Audits(ctx, realm)
	for _, v := range audits {
		if v.Sink == a.o.Sink && v.Verdict == NoGap && a.o.Now().Sub(v.At) < a.o.SkipYounger {
			known[v.Entity] = true
		}
	}
	return known, err
}

// fatal reports whether err concerns more than one realm.
func (a *auditor) fatal(ctx context.Context, err error) bool {
	var api *apiError
	return ctx.Err() != nil || errors.Is(err, ErrMaxCalls) || errors.Is(err, state.ErrBudget) || !errors.As(err, &api)
}

// apiError is of the API, and so of one realm.
type apiError struct{ error }

func (e *apiError) Unwrap() error { return e.error }

// keep stores a verdict.
func (a *auditor) keep(ctx context.Context, v state.Audit) error {
	err := errors.Join(a.o.State.SaveAudit(ctx, v), a.o.Table.KeepAudit(ctx, postgres.Audit{
		Run: v.Run, Realm: v.Realm, Entity: v.Entity, At: v.At, UpTo: v.UpTo, Verdict: v.Verdict, Detail: v.Detail,
		Records: v.Records, Missing: v.Missing, Stale: v.Stale, Extra: v.Extra, Differs: v.Differs, Repaired: v.Repaired, Calls: v.Calls,
	}))
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.Verdicts = append(a.report.Verdicts, v)
	a.o.Verdict(v)
	return nil
}

func (a *auditor) skipped() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.Skipped++
}

func (a *auditor) tell(change func(*Progress)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := &a.progress
	change(p)
	p.Calls = int(a.calls.Load())
	if took := time.Since(a.started).Seconds(); took > 0 && p.Compared > 0 {
		p.PerSecond = float64(p.Compared) / took
		p.Left = time.Duration(float64(max(p.Records-p.Compared, 0)) / p.PerSecond * float64(time.Second))
	}
	a.o.Progress(*p)
}
