package reconciler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// ledger is what a scan knows of its gaps.
type ledger struct {
	mu sync.Mutex // held while gaps are noted, one batch after the other

	// What the verdicts go by, read once and only if something is missing.
	read    bool
	heard   map[state.Kind]time.Time
	outages []state.Outage
	// deselected are the kinds that were unticked in Intuit's portal.
	deselected map[state.Kind]state.Deselection

	kinds   map[state.Kind]bool // of which gaps were found
	exports int                 // for ids
}

// sourceRestored is how a record was found of which a sink held a wrong tombstone.
const sourceRestored = "restored"

const (
	// selectedFor is how long a kind of webhook counts as selected after one came.
	selectedFor = 30 * 24 * time.Hour
	// outageSlack is how far our clock and Intuit's may differ, and how long Intuit
	// gathers events before it sends them.
	outageSlack = time.Minute
)

// note puts changes that are about to be published into the ledger of gaps, and has
// them exported. Before, and each change once whoever finds it again: what a crash in
// between leaves out, the next scan notes. An initial load has no gaps: nobody promised
// a webhook for what was there. A ledger that cannot be written does not hold up the
// repair.
func (s *scan) note(ctx context.Context, source string, events []*ledgerfeedv1.Event) {
	events = slices.DeleteFunc(slices.Clone(events), func(e *ledgerfeedv1.Event) bool { return s.cursors[e.GetEntity()].IsZero() })
	if len(events) == 0 {
		return
	}
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	derived := s.derived(ctx, events)
	gaps := make([]state.Gap, len(events))
	for i, e := range events {
		gaps[i] = s.gapLocked(ctx, source, e)
		gaps[i].Derived = derived[i]
	}
	// Exported first: what the ledger has already is taken for exported.
	if err := s.exportLocked(ctx, gaps); err != nil {
		s.log.Warn("gaps not exported", telemetry.Count(len(gaps)), telemetry.Error(err))
	}
	fresh, err := s.r.state.NoteGaps(ctx, s.realm, gaps)
	if err == nil {
		err = s.r.state.CountGaps(ctx, s.realm, fresh, s.firstLocked(fresh))
	}
	if err != nil {
		s.log.Warn("gaps not recorded", telemetry.Count(len(gaps)), telemetry.Error(err))
	}
	verdicts := map[string]int{}
	for _, g := range fresh {
		verdicts[g.Verdict]++
	}
	for _, verdict := range slices.Sorted(maps.Keys(verdicts)) {
		s.r.metrics.gaps.WithLabelValues(verdict).Add(float64(verdicts[verdict]))
		s.log.Info("changes found that no webhook announced", telemetry.Source(source),
			telemetry.Reason(verdict), telemetry.Count(verdicts[verdict]))
	}
}

func (s *scan) gapLocked(ctx context.Context, source string, e *ledgerfeedv1.Event) state.Gap {
	g := state.Gap{
		Realm: s.realm, Ref: state.Ref{Entity: e.GetEntity(), ID: e.GetEntityId()}, Version: e.GetVersion(),
		Found: s.r.now().UTC().Truncate(time.Millisecond), Event: when(e).Truncate(time.Second), Operation: operation(e), Source: source,
	}
	if g.Verdict = s.verdictLocked(ctx, g); source == sourceRestored {
		g.Verdict = state.VerdictRestored
	}
	return g
}

// operation is what a webhook would have called it, as far as a scan can tell.
func operation(e *ledgerfeedv1.Event) string {
	switch {
	case e.GetOperation() == ledgerfeedv1.Operation_OPERATION_DELETE:
		return "delete"
	case !qbo.IsTombstone(e.GetVersion()) && e.GetVersion()%versionsPerSecond == 0:
		return "create" // SyncToken 0
	}
	return "update"
}

// versionsPerSecond is the scale of a version: see qbo.Version.
const versionsPerSecond = 1_000_000

// firstLocked are the kinds of gaps that this scan has not found before.
func (s *scan) firstLocked(gaps []state.Gap) map[state.Kind]bool {
	first := map[state.Kind]bool{}
	for _, g := range gaps {
		if k := (state.Kind{Entity: g.Entity, Operation: g.Operation}); !s.ledger.kinds[k] {
			first[k], s.ledger.kinds[k] = true, true
		}
	}
	return first
}

// gapsAtOnce is how many gaps one message carries.
const gapsAtOnce = 500

// exportPause is how long no gap is exported after their stream has failed: each batch
// of a scan would wait for it as long as a scan waits for a broker at all.
const exportPause = time.Minute

var errExportPaused = errors.New("the stream of gaps failed within the last minute")

// exportLocked puts gaps on the stream for the sinks that keep them.
func (s *scan) exportLocked(ctx context.Context, gaps []state.Gap) error {
	if s.r.exportsPaused() {
		return errExportPaused
	}
	for part := range slices.Chunk(gaps, gapsAtOnce) {
		s.ledger.exports++
		data, err := json.Marshal(part)
		if err != nil {
			return fmt.Errorf("encode gaps: %w", err)
		}
		m := stream.GapMessage{RealmID: s.realm, ID: fmt.Sprintf("%s/%d", s.id, s.ledger.exports), Data: data}
		if err := s.repeat(ctx, func() error { return s.r.stream.PublishGaps(ctx, m) }); err != nil {
			if ctx.Err() == nil { // else it is the scan that has ended
				s.r.pauseExports()
			}
			return err
		}
	}
	return nil
}

func (r *Reconciler) exportsPaused() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now().Before(r.exports)
}

func (r *Reconciler) pauseExports() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exports = r.now().Add(exportPause)
}

// verdictLocked says why no webhook told of the change.
func (s *scan) verdictLocked(ctx context.Context, g state.Gap) string {
	info, ok := entity.Lookup(g.Entity)
	if ok && !offered(info, g.Operation) {
		return state.VerdictNoWebhooks
	}
	switch {
	case g.Event.IsZero():
	case g.Event.Before(s.conn.ConnectedAt.Truncate(time.Second)):
		return state.VerdictBeforeConnection
	case !s.conn.LapsedAt.IsZero() && g.Event.After(s.conn.LapsedAt) && g.Event.Before(s.conn.ChangedAt):
		return state.VerdictLapsed
	}
	s.inquireLocked(ctx)
	for _, o := range s.ledger.outages {
		if !g.Event.Before(o.From.Add(-outageSlack)) && !g.Event.After(o.To.Add(outageSlack)) {
			return state.VerdictOutage
		}
	}
	if d, ok := s.ledger.deselected[state.Kind{Entity: g.Entity, Operation: g.Operation}]; ok && g.Event.After(d.Since) {
		return state.VerdictDeselected
	}
	if len(s.ledger.heard) > 0 && !s.selectedLocked(g) {
		return state.VerdictNotSelected
	}
	return state.VerdictLost
}

// derived reports of each change whether it moved derived fields only: a sink has the
// record with the same SyncToken, so that nobody has edited it since. Should the marks
// not be readable none is called so, as none needs to be.
func (s *scan) derived(ctx context.Context, events []*ledgerfeedv1.Event) []bool {
	derived := make([]bool, len(events))
	refs := make([]state.Ref, len(events))
	for i, e := range events {
		refs[i] = state.Ref{Entity: e.GetEntity(), ID: e.GetEntityId()}
		derived[i] = e.GetContentHash() != "" // of a version that is delivered
	}
	for _, sink := range s.sinks {
		marks, err := s.r.state.Marks(ctx, s.realm, sink, refs)
		if err != nil {
			s.log.Debug("marks not read for the gap log", telemetry.Error(err))
			return derived
		}
		for i, e := range events {
			derived[i] = derived[i] || sameToken(marks[i].Version, e.GetVersion())
		}
	}
	return derived
}

// sameToken reports whether two states of a record have the same SyncToken, as far as
// versions tell.
func sameToken(have, want int64) bool {
	token := want % versionsPerSecond
	return have > 0 && have%versionsPerSecond == token && token < maxToken
}

// maxToken is from which SyncToken on versions are alike: see qbo.Version.
const maxToken = 999_998

// offered reports whether Intuit has webhooks for such a change. A record of a name
// list is deleted by a merge or becomes inactive, which is an update.
func offered(info entity.Info, operation string) bool {
	for _, o := range info.Operations {
		if classOf(o) == operation {
			return true
		}
	}
	return false
}

// classOf is what a scan takes an operation for.
func classOf(operation string) string {
	switch operation {
	case "Create":
		return "create"
	case "Delete", "Merge":
		return "delete"
	}
	return "update"
}

// selectedLocked reports whether a webhook of that kind has come to any realm of late: what
// an app is told of is selected for all its realms at once.
func (s *scan) selectedLocked(g state.Gap) bool {
	operations := []string{g.Operation}
	if g.Operation == "delete" {
		operations = append(operations, "merge")
	}
	for _, o := range operations {
		last, ok := s.ledger.heard[state.Kind{Entity: g.Entity, Operation: o}]
		if ok && s.r.now().Sub(last) < selectedFor {
			return true
		}
	}
	return false
}

// when is when the change happened; zero if QuickBooks does not say.
func when(e *ledgerfeedv1.Event) time.Time {
	if e.GetOccurredAt() == nil {
		return time.Time{}
	}
	return e.GetOccurredAt().AsTime()
}

// inquireLocked reads which webhooks have come, and when we could take none. Should that
// fail, no gap of the scan is called unselected, or an outage's.
func (s *scan) inquireLocked(ctx context.Context) {
	if s.ledger.read {
		return
	}
	s.ledger.read = true
	var err error
	if s.ledger.heard, err = s.r.state.Heard(ctx); err != nil {
		s.log.Warn("received webhooks not read", telemetry.Error(err))
	}
	if s.ledger.deselected, err = s.r.state.Deselected(ctx); err != nil {
		s.log.Warn("deselected webhooks not read", telemetry.Error(err))
	}
	if s.ledger.outages, err = s.r.outages(ctx); err != nil {
		s.log.Warn("outages not read", telemetry.Error(err))
	}
}

// outages are the times in which we are known to have taken no webhooks, or to have lost
// what they told. That nobody listened is none: webhooks may have been taken.
func (r *Reconciler) outages(ctx context.Context) ([]state.Outage, error) {
	all, err := r.state.Outages(ctx)
	return slices.DeleteFunc(all, func(o state.Outage) bool {
		return o.Kind != state.OutageIngress && o.Kind != state.OutageBroker
	}), err
}
