package dev

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

const (
	settleTimeout = 5 * time.Minute
	// scansTimeout bounds how long scans are repeated until the sinks are equal.
	scansTimeout = 2 * time.Minute
	betweenScans = 3 * time.Second
	pollIdle     = 50 * time.Millisecond
)

// prove runs the load and, with Options.For, lets the feed settle and compares.
func (f *feed) prove(ctx context.Context) error {
	if err := f.load.Run(ctx, f.o.For); err != nil {
		return err
	}
	f.term.Printf("load is over after %s: %d changes made; waiting for the feed to settle", f.o.For, f.load.made.Load())
	begun := time.Now()
	err := f.settle(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		// The comparison shows what that means for the sinks.
		f.term.Printf("the feed did not settle: %v", err)
	}
	f.summary.SettleMS = time.Since(begun).Milliseconds()
	return f.compareSinks(ctx)
}

// settle ends the lag of reads, waits until the webhooks that are left are
// delivered, then scans for changes that no webhook announced. One scan is enough
// where an answer can be believed; else scans follow, of everything, until the
// sinks are equal or time is up.
func (f *feed) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	f.sim.endLag()
	begun := time.Now()
	for load := false; ; load = true {
		err := f.scan(ctx, load)
		if !f.o.misleading() || ctx.Err() != nil || time.Since(begun) > scansTimeout {
			return err
		}
		equal, readErr := f.equal(ctx)
		if equal || readErr != nil {
			return errors.Join(err, readErr)
		}
		if sleep(ctx, betweenScans) != nil {
			return errors.Join(err, ctx.Err())
		}
	}
}

// equal compares without telling of it.
func (f *feed) equal(ctx context.Context) (bool, error) {
	truth := truthOf(f.sim.Sim)
	for _, s := range f.sinks {
		held, err := s.snapshot(ctx)
		if err != nil {
			return false, fmt.Errorf("read sink %s: %w", s.target, err)
		}
		if d := compare(truth, only(held, f.sim.Realms())); !d.equal() {
			return false, nil
		}
	}
	return true, nil
}

// scan delivers the webhooks that are left and scans every realm, from its
// cursors or, to load, from the beginning.
func (f *feed) scan(ctx context.Context, load bool) error {
	if err := f.sim.FlushWebhooks(ctx); err != nil {
		return fmt.Errorf("flush webhooks: %w", err)
	}
	if err := f.awaitIdle(ctx); err != nil {
		return err
	}
	report, err := f.reconciler.Reconcile(ctx, reconciler.Request{Realms: f.sim.Realms(), Load: load, Grace: 0, Wait: true})
	if err != nil {
		return fmt.Errorf("reconcile: %w", err)
	}
	f.term.Printf("reconciled %d realms in %d calls: %d changes found by CDC, %d by Query", report.Realms, report.Calls, report.MissingCDC, report.MissingQuery)
	var errs []error
	for realm, err := range report.Errors {
		errs = append(errs, fmt.Errorf("reconcile realm %s: %w", realm, err))
	}
	for realm, names := range report.Incomplete {
		errs = append(errs, fmt.Errorf("reconcile realm %s: %v not read as a whole", realm, names))
	}
	for _, realm := range report.Parked {
		conn, err := f.connections.Get(ctx, realm)
		if err == nil {
			err = conn.Unusable()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("reconcile: %w", err))
		}
	}
	return errors.Join(append(errs, f.awaitIdle(ctx))...)
}

func (f *feed) awaitIdle(ctx context.Context) error {
	poll := time.NewTicker(pollIdle)
	defer poll.Stop()
	for {
		idle, err := f.processor.Idle(ctx)
		if err != nil {
			return fmt.Errorf("wait for the delivery of all changes: %w", err)
		}
		if idle {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the delivery of all changes: %w", ctx.Err())
		case <-poll.C:
		}
	}
}

// compareSinks fills the summary. What differs is shown by examples.
func (f *feed) compareSinks(ctx context.Context) error {
	truth := truthOf(f.sim.Sim)
	shown := 0
	for _, s := range f.sinks {
		held, err := s.snapshot(ctx)
		if err != nil {
			return fmt.Errorf("read sink %s: %w", s.target, err)
		}
		held = only(held, f.sim.Realms())
		d := compare(truth, held)
		f.summary.addSink(s.tally.Name(), s.target, len(held), s.tally.Counts(), d)
		for _, example := range d.examples {
			if shown++; shown <= maxExamples {
				f.complain("%s: %s", s.target, example)
			}
		}
	}
	if !f.summary.Equal() {
		f.complainDead(ctx)
	}
	return f.measure(ctx)
}

// measure fills in what is not about one sink.
func (f *feed) measure(ctx context.Context) error {
	dead, err := f.dead(ctx)
	if err != nil {
		return err
	}
	stats, s := f.sim.Stats(), &f.summary
	s.Realms, s.Seed = len(f.sim.Realms()), f.o.Seed
	s.Made = int(f.load.made.Load())
	s.WebhookEvents, s.WebhookEventsLost = stats.WebhookEvents, stats.WebhookEventsDropped
	s.WebhookEventsUnselected, s.Unselected = stats.WebhookEventsUnselected, eventTypes(f.sim.Unselected())
	s.APICalls, s.Throttled = stats.Calls, stats.Throttled
	s.MaxCallsPerMinute, s.MaxConcurrent = stats.MaxPerMinute, stats.MaxConcurrent
	s.Dead = dead
	if first := f.firstDelivery.Load(); first != nil {
		s.FirstDeliveryMS = first.Sub(f.o.Started).Milliseconds()
	}
	return nil
}

// eventTypes are the types as --unselect takes them; never nil, so that JSON shows a list.
func eventTypes(all []qbosim.Unselected) []string {
	types := make([]string, len(all))
	for i, u := range all {
		types[i] = u.String()
	}
	return types
}

// complain writes to stderr, where examples belong whatever stdout is.
func (f *feed) complain(format string, args ...any) {
	_, _ = fmt.Fprintf(f.o.Stderr, format+"\n", args...)
}

// complainDead shows the newest dead letters: they are the usual reason why a
// change is not in a sink.
func (f *feed) complainDead(ctx context.Context) {
	letters, err := f.stream.DeadLetters(ctx, 3)
	if err != nil {
		f.complain("read the dead letters: %v", err)
	}
	for _, l := range letters {
		f.complain("dead letter: realm %s %s: %s", l.RealmID, l.Reason, l.Detail)
	}
}

// only leaves out what other data directories wrote to the same place.
func only(held snapshot, realms []string) snapshot {
	ours := make(map[string]bool, len(realms))
	for _, realm := range realms {
		ours[realm] = true
	}
	mine := snapshot{}
	for ref, row := range held {
		if ours[ref.Realm] {
			mine[ref] = row
		}
	}
	return mine
}
