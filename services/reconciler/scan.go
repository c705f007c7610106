package reconciler

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/idset"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// scan is one look at one realm, under its lease.
type scan struct {
	r     *Reconciler
	log   *zap.Logger
	realm string
	id    string
	grace time.Duration
	// atRest: nothing has changed for a while, so that the API shows all there is.
	atRest bool
	// underway are changes that an unverified scan has put on the stream
	// already: they are missing all the same, but not published again.
	underway map[state.Ref]int64
	// isolate searches for refused entities after server errors too.
	isolate bool
	// explicit are the entities that somebody has named: a refusal does not keep them out.
	explicit map[string]bool

	conn    connection.Connection
	client  *qbo.Client // takes answers up to pageLimit
	whole   *qbo.Client // and this as large ones as anybody
	sinks   []string
	memory  state.Memory         // of Redis, before it was asked for marks
	cursors map[string]time.Time // as the scan found them
	loaded  map[string]time.Time // how far loads had come then
	fields  state.CustomFields
	use     map[string]state.EntityUse // as the scan found it; nil if it need not know
	used    map[string]bool            // by marks and webhooks
	follow  map[state.Ref]state.FollowUp
	// followMore says that comparing has noted follow-ups that follow has not.
	followMore atomic.Bool
	settled    time.Time // no change of before then is left to its webhook
	// generation is that of the cursors when the scan began: see state.Generation.
	generation state.Generation
	// untold: no sink has a record of what CDC covers, so that no deletion is to be told.
	untold bool
	// valid is from when on what an earlier try of a first load has read counts.
	valid    time.Time
	progress func(state.JobProgress)
	ledger   ledger

	mu       sync.Mutex // guards what follows: entities are read at the same time
	clock    time.Time  // Intuit's, at the latest answer
	batches  int        // published, for ids
	saved    int        // scans remembered, for ids
	answers  int        // calls that succeeded
	searches int        // calls that searched for refused entities
	found    bool       // one of those has succeeded
	extra    int        // successful calls that refusals have cost
	refused  map[string]refusal
	doubts   []doubt
	evidence evidence // of a first load
	// referenced are records that changed transactions name, if those are refreshed.
	referenced map[state.Ref]bool
	changed    int // records that have changed since their entity's cursor
	findings   []*finding
	outcome
	pending []*pending // what must be delivered before cursors move
}

// outcome is what came of scanning a realm.
type outcome struct {
	calls, items             int
	missingCDC, missingQuery int
	incomplete               []string
	refusals                 []state.Refusal // the entities that were left out
	verified                 bool
	pace                     state.Pace
	again                    bool // only entities that were refused lately were asked for
	err                      error
}

// finding is what a scan has found out about one entity so far.
type finding struct {
	task
	// time is Intuit's clock at the first answer: every change before it has
	// been seen once the reading is complete.
	time time.Time
	// left is the oldest change that was left to its webhook; zero: none.
	left    time.Time
	seen    *recent         // ids and versions that the last answers held
	deleted map[string]bool // ids that CDC called deleted
	// held are the records that are alive at some sink, by the second of the version;
	// marked are those that the answers returned. undelivered are dead letters that no
	// sink has, less those returned.
	held        *idset.Set
	dead        *idset.Set // tombstones at some sink, if others are to be told
	undelivered map[string]int64
	swept       state.Sweep // under way; zero: none
	uncounted   error       // COUNT was refused, and the records were not read yet
	told        bool        // CDC has answered as a whole: no deletion of its window is left out
	// unread are the seconds in which a record that is not known by its id makes
	// every Query fail.
	unread  []time.Time
	missing []state.Missing
	items   int       // records seen, guarded by the scan's mu
	latest  time.Time // when one of them last changed; guarded as well
	noKey   int       // rows of answers that had no key
	cut     bool      // an answer of CDC is compared whose documents may lack custom fields
	// asked is one more than the answers before the first call of several entities that was
	// refused; zero: none was.
	asked int
	// expected is how many there are to see, if that was asked; guarded as well.
	expected int
	done     bool      // nothing more is asked about it; guarded as well
	whole    bool      // all that was asked for was read; guarded as well
	unused   bool      // the company cannot use it, so that nothing was asked
	counted  time.Time // when a count found none; zero: it was not counted, or there are some
	pages    int       // read since the load's progress was kept
	// published are those of missing this scan itself puts on the stream.
	published map[state.Ref]bool
	kept      int // of missing when it was last gone through
	// overflow: the sinks take nothing, so that no more of missing is kept than
	// maxMissing. The cursor must stay. dropped is the first change left out.
	overflow bool
	dropped  time.Time
}

func newFinding(t task) *finding {
	return &finding{task: t, seen: newRecent(), deleted: map[string]bool{}, published: map[state.Ref]bool{}}
}

// answered keeps the earliest time of an answer.
func (f *finding) answered(at time.Time) {
	if f.time.IsZero() || at.Before(f.time) {
		f.time = at
	}
}

// target is where the cursor may move once all that is missing is delivered:
// never past a change that was left to its webhook.
func (f *finding) target() time.Time {
	to := f.time.Add(-margin)
	if !f.left.IsZero() && f.left.Add(-time.Second).Before(to) {
		to = f.left.Add(-time.Second)
	}
	return to.Truncate(time.Second)
}

// run asks what the plan says: CDC first, then Query for the entities that CDC
// does not serve, cannot answer as a whole, or does not reach back to. An
// entity that fails does not keep the others from being read.
func (s *scan) run(ctx context.Context, o order) error {
	fs := s.plan(o)
	s.findings = fs
	s.tell()
	var rest []*finding
	for _, group := range groups(fs) {
		more, err := s.cdc(ctx, group)
		if err != nil {
			return err
		}
		rest = append(rest, more...)
	}
	for _, f := range fs {
		if f.changedSince.IsZero() {
			rest = append(rest, f)
		}
	}
	rest = s.fewerCounts(o, rest)
	var err error
	if o.first {
		err = s.loadFirst(ctx, rest)
	} else {
		err = s.queries(ctx, rest)
	}
	if err == nil {
		err = s.settleDoubts(ctx)
	}
	if err == nil {
		err = s.countAll(ctx, o, fs)
	}
	if err == nil {
		err = s.confirmAll(ctx, o, rest)
	}
	if err != nil && fatal(ctx, err) {
		return err
	}
	err = errors.Join(err, s.followUps(ctx, o), s.refresh(ctx), s.keepFields(ctx, o, err != nil))
	s.refreshCompany(ctx, o)
	if err != nil {
		return err
	}
	return s.settleDoubts(ctx)
}

// fewerCounts leaves as many counts of unused entities to the next scan as refusals have
// cost calls. Entities that were refused before come first: what answers after them shows
// that the refusal is theirs.
func (s *scan) fewerCounts(o order, fs []*finding) []*finding {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := slices.Clone(fs)
	for _, f := range kept {
		if known(s.refused[f.entity].cdc) && f.asked == 0 {
			s.extra += 2 // it is read, and its older records counted
		}
	}
	for i := len(kept) - 1; i >= 0 && !o.everything; i-- {
		if s.extra > 0 && kept[i].count && !known(s.refused[kept[i].entity].query) {
			kept = slices.Delete(kept, i, i+1)
			s.extra--
		}
	}
	slices.SortStableFunc(kept, func(a, b *finding) int {
		return rank(known(s.refused[b.entity].query)) - rank(known(s.refused[a.entity].query))
	})
	return kept
}

func rank(first bool) int {
	if first {
		return 1
	}
	return 0
}

// loadsAtOnce is how many entities of a realm are read at the same time while it is
// loaded: half of the calls that may be under way about it.
const loadsAtOnce = 4

// queries asks Query for entities: one after the other, or several at a time where
// there is a load among them.
func (s *scan) queries(ctx context.Context, fs []*finding) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(1)
	if slices.ContainsFunc(fs, func(f *finding) bool { return f.load }) {
		g.SetLimit(loadsAtOnce)
	}
	var mu sync.Mutex // guards errs
	var errs []error
	for _, f := range fs {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if s.unknown(f.entity, s.r.now()) {
				s.ended(f)
				return nil
			}
			err := s.ask(ctx, f)
			switch {
			case err == nil:
				s.mu.Lock()
				f.whole = f.load && f.since.IsZero()
				s.mu.Unlock()
				s.ended(f)
			case errors.Is(err, errUnreadable) || errors.Is(err, errBehind):
				s.leaveOut(f, err)
			case causeOf(ctx, err) != causeNone:
				s.ended(f)
				return s.refuses(ctx, f, wayQuery, err)
			case fatal(ctx, err):
				return err
			default:
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
			return nil
		})
	}
	err := g.Wait()
	return errors.Join(append(errs, err)...)
}

// errUnreadable says that an entity cannot be read as a whole, now or soon.
var errUnreadable = errors.New("cannot be read completely")

// leaveOut keeps the cursor of an entity that cannot be read as a whole.
func (s *scan) leaveOut(f *finding, err error) {
	s.mu.Lock()
	s.incomplete = append(s.incomplete, f.entity)
	slices.Sort(s.incomplete)
	f.done = true
	s.mu.Unlock()
	s.tell()
	s.r.metrics.incomplete.WithLabelValues(f.entity).Inc()
	s.log.Warn("entity skipped; its cursor is kept", telemetry.Entity(f.entity), telemetry.Error(err))
}

// fatal reports whether err stands in the way of the other entities too.
func fatal(ctx context.Context, err error) bool {
	return blocked(ctx, err) || errors.Is(err, qbo.ErrUnauthorized) || errors.Is(err, qbo.ErrForbidden)
}

// lapsed reports whether the realm's authorisation has ended.
func lapsed(err error) bool {
	return errors.Is(err, connection.ErrReauthRequired) || errors.Is(err, connection.ErrNotConnected) || errors.Is(err, connection.ErrParked)
}

// poisoned reports whether err may come from one record of those asked for.
func poisoned(ctx context.Context, err error) bool {
	return !fatal(ctx, err) && errors.Is(err, qbo.ErrPoison)
}

func tooLarge(err error) bool {
	return errors.Is(err, qbo.ErrTooLarge) || errors.Is(err, qbo.ErrTooLong)
}

// newID is unique over all scans, so that the broker takes the envelope of no
// later scan for a repetition. It ends in the sinks the scan compares with: a
// sink that is registered afterwards lacks more than the scan remembers.
func newID(now time.Time, sinks []string) string {
	var unique [6]byte
	_, _ = rand.Read(unique[:]) // crypto/rand does not fail
	return fmt.Sprintf("%d-%s-%s", now.UnixMilli(), hex.EncodeToString(unique[:]), tag(sinks))
}
