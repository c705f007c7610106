package reconciler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// order says how to scan a realm.
type order struct {
	grace      time.Duration
	entities   []string  // nil: all
	load       bool      // everything from the beginning
	again      bool      // entities are those that were refused lately, and nothing else is asked
	first      bool      // the realm was never scanned, and nobody asks for it
	begun      time.Time // when the job of a first load began
	everything bool      // the entities only Query can find as well, whenever they were last scanned
	recovery   bool      // those of them that the realm uses
	republish  bool      // what an unverified scan has published already as well
	wait       bool      // until verified
	atRest     bool      // whoever asks says that the API has caught up

	// progress is told how far the scan is, and that all is read; nil: nobody watches.
	progress func(p state.JobProgress, read bool)
}

// wants reports whether an entity is to be scanned.
func (o order) wants(entity string) bool {
	return o.entities == nil || slices.Contains(o.entities, entity)
}

// isolateAfter is how many scans of a realm must fail in a row before a server
// error is searched for in halves, like a refusal: QuickBooks answers 500 to
// some records too, but mostly when it is down.
const isolateAfter = 3

// scan scans one realm under its lease.
func (r *Reconciler) scan(ctx context.Context, realm string, o order) outcome {
	r.readClock(ctx)
	started := r.now()
	ctx, end := r.span(ctx, realm, o)
	var s *scan
	err := r.leased(ctx, realm, func(ctx context.Context) error {
		var err error
		if s, o, err = r.newScan(ctx, realm, o); err != nil {
			return err
		}
		if err := s.run(ctx, o); err != nil {
			return err
		}
		if o.entities == nil {
			s.pace = paced(s.pace, started, s.changed, o.everything || o.recovery)
			r.keepPace(ctx, realm, s.generation, s.pace)
		}
		s.keepUse(ctx)
		return nil
	})
	took := r.now().Sub(started)
	out := outcome{}
	if s != nil {
		s.noteRefusals(ctx)
		out = s.outcome
		if o.progress != nil {
			s.mu.Lock()
			o.progress(s.progressLocked(), err == nil)
			s.mu.Unlock()
		}
		// The lease is not needed to wait: verifying only ever adds.
		out.verified = r.verified(ctx, s.pending, o.wait)
	}
	if err = r.refusedWhole(ctx, realm, err); lapsed(err) && !errors.Is(err, errParked) {
		err = fmt.Errorf("%w: %w", errParked, err)
	}
	out.err = err
	end(out)
	r.finished(ctx, realm, out, took)
	return out
}

// newScan reads what a scan starts from, and completes the order by it.
func (r *Reconciler) newScan(ctx context.Context, realm string, o order) (*scan, order, error) {
	conn, err := r.connections.Get(ctx, realm)
	if err != nil {
		return nil, o, fmt.Errorf("connection: %w", r.noteLost(ctx, realm, err))
	}
	if err := r.admit(ctx, conn); err != nil {
		return nil, o, err
	}
	// Before all that a rewind may follow upon: what is read below is of this generation
	// or a later one, and then the cursors do not move.
	generation, err := r.state.Generation(ctx, realm)
	if err != nil {
		return nil, o, err
	}
	sinks, err := r.state.Sinks(ctx)
	if err != nil {
		return nil, o, err
	}
	if len(sinks) == 0 {
		// Compared with no sink nothing is ever missing, and cursors would run ahead.
		return nil, o, errNoSinks
	}
	memory, err := r.state.Memory(ctx)
	if err != nil {
		return nil, o, err
	}
	if memory.Forgotten() {
		return nil, o, errForgotten
	}
	if err := r.verifier.adopt(ctx, realm); err != nil {
		return nil, o, err
	}
	x, err := r.occasion(ctx, realm)
	if err != nil {
		return nil, o, err
	}
	o.everything = o.everything || x.pace.Full.IsZero()
	o.recovery = r.late(x, conn)
	s := &scan{
		r:          r,
		log:        r.log.With(telemetry.Realm(realm), telemetry.Company(r.companyName(ctx, realm))),
		realm:      realm,
		id:         newID(r.now(), sinks),
		grace:      o.grace,
		atRest:     o.atRest,
		conn:       conn,
		sinks:      sinks,
		memory:     memory,
		settled:    settled(x, conn),
		progress:   o.tell(),
		referenced: map[state.Ref]bool{},
		explicit:   map[string]bool{},
		ledger:     ledger{kinds: map[state.Kind]bool{}},
	}
	for _, name := range o.entities {
		s.explicit[name] = true
	}
	s.generation = generation
	s.pace, s.again = x.pace, o.again
	if s.cursors, err = r.state.Cursors(ctx, realm); err != nil {
		return nil, o, err
	}
	sabotage.At(sabotage.ScanBegun)
	if s.loaded, err = r.state.Loaded(ctx, realm); err != nil {
		return nil, o, err
	}
	if s.refused, err = r.readRefused(ctx, realm); err != nil {
		return nil, o, err
	}
	if err := s.readFollowUps(ctx); err != nil {
		return nil, o, err
	}
	if s.fields, err = r.state.CustomFields(ctx, realm); err != nil {
		return nil, o, err
	}
	if err := s.readUse(ctx, o); err != nil {
		return nil, o, err
	}
	if err := s.beginFirst(ctx, o, x, conn); err != nil {
		return nil, o, err
	}
	switch {
	case o.load || len(s.cursors) == 0:
		s.client = r.client.With(qbo.Backfill)
	case x.repairs(conn):
		s.client = r.client.With(qbo.Repair)
	default:
		s.client = r.client.With(qbo.Scan)
	}
	s.whole, s.client = s.client, s.client.WithMaxResponse(PageLimit)
	all, _ := refusedNow(s.refused)
	r.noteRefused(realm, all)
	r.note(realm, s.cursors)
	r.learn(realm, func(known *realmState) { s.isolate = known.failures >= isolateAfter })
	if !o.republish {
		s.underway = r.verifier.underway(realm)
	}
	return s, o, nil
}

// clockDifference is how far our clock and Intuit's may be apart.
const clockDifference = time.Minute

// settled is up to when, by Intuit's clock, changes are not left to their webhooks:
// those were lost in an outage of ours, or acknowledged while the realm was not
// connected, parked or not authorised, or never sent.
func settled(x occasion, conn connection.Connection) time.Time {
	at := x.since
	for _, other := range []time.Time{conn.ConnectedAt, conn.ChangedAt} {
		if other.After(at) {
			at = other
		}
	}
	return at.Add(clockDifference)
}

// tell is what a scan tells of its progress.
func (o order) tell() func(state.JobProgress) {
	if o.progress == nil {
		return nil
	}
	return func(p state.JobProgress) { o.progress(p, false) }
}

// note keeps the oldest of a realm's cursors for the metric. Those of entities that
// QuickBooks refuses there stay, and say nothing of whether the realm is scanned.
func (r *Reconciler) note(realm string, cursors map[string]time.Time) {
	r.learn(realm, func(known *realmState) {
		known.oldest = time.Time{}
		for name, cursor := range cursors {
			if !slices.Contains(known.refused, name) && (known.oldest.IsZero() || cursor.Before(known.oldest)) {
				known.oldest = cursor
			}
		}
	})
}

// noteRefused keeps which entities those are, and reports whether that is news.
func (r *Reconciler) noteRefused(realm string, refusals []state.Refusal) (news bool) {
	var names []string
	for _, one := range refusals {
		names = append(names, one.Entity)
	}
	r.learn(realm, func(known *realmState) {
		news = !slices.Equal(known.refused, names)
		known.refused = names
	})
	return news
}

// noteRefusals ends a scan: what it has learned of refused entities counts at once, and
// those that may be served again soon make the realm due.
func (s *scan) noteRefusals(ctx context.Context) {
	s.mu.Lock()
	all, next := refusedNow(s.refused)
	s.refusals = all
	s.mu.Unlock()
	if !next.IsZero() {
		in := max(next.Sub(s.r.now()), s.r.backOff(1))
		if err := s.r.state.ScheduleIn(ctx, s.realm, in); err != nil && ctx.Err() == nil {
			s.log.Warn("retry of refused entities not scheduled; the next scan will retry", telemetry.Error(err))
		}
	}
	if !s.r.noteRefused(s.realm, s.refusals) {
		return
	}
	if cursors, err := s.r.state.Cursors(ctx, s.realm); err == nil { // else the next scan notes them
		s.r.note(s.realm, cursors)
	}
}

// lag is the age of the oldest cursor of the realms this process has met and
// that are not parked.
func (r *Reconciler) lag() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	var most time.Duration
	for _, known := range r.realms {
		if !known.parked && !known.oldest.IsZero() {
			most = max(most, r.now().Sub(known.oldest))
		}
	}
	return most
}

// LeaseName is the lease a realm is scanned under. Whoever rewinds a realm's
// cursors takes it first.
func LeaseName(realm string) string { return "scan:" + realm }

// leased runs work under the realm's lease and ends it when the lease is lost.
// Losing it harms nothing: cursors only grow, each by its own proof.
func (r *Reconciler) leased(ctx context.Context, realm string, work func(context.Context) error) error {
	lease, err := r.state.Lease(ctx, LeaseName(realm), r.config.LeaseTTL)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		r.renew(ctx, realm, lease, cancel)
	}()
	err = work(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	cancel(nil)
	<-renewed
	if release := lease.Release(ctx); release != nil {
		r.log.Debug("lease not released; it will expire", telemetry.Realm(realm), telemetry.Error(release))
	}
	return err
}

// renew prolongs the lease and the claim until ctx ends, or ends it when the
// lease is lost.
func (r *Reconciler) renew(ctx context.Context, realm string, lease *state.Lease, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(r.config.LeaseTTL / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := lease.Renew(ctx); errors.Is(err, state.ErrLost) {
			cancel(err)
			return
		}
		// A claim or a lease that could not be prolonged runs out by itself.
		_ = r.state.Extend(ctx, realm, r.visibility())
	}
}

// verified reports whether all the scans are settled; with wait it waits for
// that.
func (r *Reconciler) verified(ctx context.Context, scans []*pending, wait bool) bool {
	all := true
	for _, p := range scans {
		if !wait {
			return false
		}
		settled, err := r.verifier.wait(ctx, p)
		if err != nil {
			return false
		}
		all = all && settled
	}
	return all
}

// finished counts the scan, tells of it, and remembers what the next one of the
// realm must know.
func (r *Reconciler) finished(ctx context.Context, realm string, out outcome, took time.Duration) {
	if errors.Is(out.err, state.ErrHeld) {
		return
	}
	name, parked, before := "ok", errors.Is(out.err, errParked), false
	_, waiting := waits(out.err)
	r.learn(realm, func(known *realmState) {
		before, known.parked = known.parked, parked
		switch {
		case out.err == nil:
			known.failures = 0
		case !parked && !waiting && ctx.Err() == nil && !errors.Is(out.err, state.ErrBudget):
			known.failures++
		}
	})
	fields := []zap.Field{telemetry.Realm(realm), telemetry.Took(took), telemetry.Count(out.missingCDC + out.missingQuery)}
	switch {
	case parked:
		name = "parked"
		if !before {
			r.metrics.parked.Inc()
		}
		if !before && !errors.Is(out.err, connection.ErrLost) { // which is logged already
			r.log.Warn("realm cannot be read; cursors are kept", append(fields, telemetry.Reason(out.err.Error()))...)
		}
	case ctx.Err() != nil:
		name = "stopped"
	case waiting:
		name = "waiting"
		r.log.Debug("realm not scanned", append(fields, telemetry.Error(out.err))...)
	case errors.Is(out.err, state.ErrBudget):
		name = "budget"
		r.log.Warn("realm not scanned; the month's calls are used up", append(fields, telemetry.Error(out.err))...)
	case out.err != nil:
		name = "failed"
		r.log.Warn("scan failed, will retry", append(fields, telemetry.Error(out.err))...)
	case len(out.incomplete) > 0:
		name = "incomplete"
	}
	if before && !parked {
		r.metrics.parked.Dec()
	}
	r.metrics.scans.WithLabelValues(name).Inc()
	r.metrics.took.Observe(took.Seconds())
	if name == "ok" || name == "incomplete" {
		r.log.Info("realm scanned", append(fields, telemetry.Outcome(name))...)
	}
}
