package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	store "github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// settle waits until what the faults left undone is done. First what webhooks told
// of is delivered, and judged while no scan may cover up for a loss; then scans find
// the rest.
func (r *run) settle(ctx context.Context) error {
	r.note("settle", "", "begins")
	ctx, cancel := context.WithTimeout(ctx, r.o.Settle+r.roomWait())
	defer cancel()
	r.plant.heal()
	if err := until(ctx, r.plant.cluster.restoreEdits); err != nil {
		r.note("settle", "", "the streams stay changed: "+err.Error())
	}
	r.mu.Lock()
	fills := r.effects.fills
	r.mu.Unlock()
	if fills {
		if err := until(ctx, r.plant.cluster.unstuff); err != nil {
			r.note("settle", "", "the streams stay full: "+err.Error())
		}
	}
	if err := until(ctx, r.plant.books.FlushWebhooks); err != nil {
		r.undrained = "the webhooks that are left are not taken: " + err.Error()
		r.note("settle", "", r.undrained)
		return nil
	}
	r.note("settle", "", "webhooks are delivered")
	if err := r.awaitDrained(ctx); err != nil {
		r.undrained = err.Error()
		r.note("settle", "", r.undrained)
	} else {
		r.note("settle", "", "the streams are empty")
	}
	r.mu.Lock()
	e := r.effects
	r.mu.Unlock()
	if r.made["sink-422"] { // what was on its way then
		if err := r.endLetters(ctx, nil); err != nil {
			r.note("settle", "", "the letters of the endpoint are left: "+err.Error())
		} else if err := r.awaitDrained(ctx); err != nil && r.undrained == "" {
			r.undrained = err.Error()
		}
	}
	if r.undrained == "" && e.lapses {
		if err := r.requeueDeletions(ctx); err != nil {
			r.undrained = err.Error()
			r.note("settle", "", r.undrained)
		}
	}
	if r.undrained == "" && !e.loses && !e.lapses && !e.hides && !e.withholds && !e.fills && !e.refuses {
		if err := r.judgeEvents(ctx); err != nil {
			r.note("settle", "", "the events are not judged before the scans: "+err.Error())
		}
	}
	if r.undrained == "" && (e.hides || e.lapses) && r.scans == never && !e.loses && !e.forgets && !e.withholds && !e.fills {
		if err := r.judgeFollowed(ctx); err != nil {
			r.note("settle", "", "the follow-ups are not judged: "+err.Error())
		}
	}
	if r.scans == never {
		r.plant.scanEvery.Store(int64(3 * time.Second))
		for _, one := range r.plant.services["reconciler"] {
			one.down(syscall.SIGTERM, drainWait)
			one.up()
		}
		for _, realm := range r.plant.realms { // their next scan is a day away
			if err := until(ctx, func(ctx context.Context) error { return r.plant.state.ScheduleIn(ctx, realm, 0) }); err != nil {
				return nil // the settling has taken too long: the verdicts say so
			}
		}
	}
	if e.refuses { // what a scan that was under way refused since
		if err := r.askRefused(ctx, r.plant.realms); err != nil {
			r.note("settle", "", "refused entities are left: "+err.Error())
		}
	}
	if err := r.awaitEqual(ctx, true); err != nil {
		r.note("settle", "", err.Error())
	}
	r.awaitRewinds(ctx)
	if r.made["redis-keys"] {
		r.awaitHealed(ctx)
	}
	if err := r.loadAll(context.WithoutCancel(ctx)); err != nil {
		r.note("settle", "", err.Error())
	}
	// A process that has just begun does not know SIGTERM yet, which comes next.
	if err := r.plant.ready(ctx); err != nil {
		r.note("settle", "", err.Error())
	}
	return nil
}

// loadAll has everything read once more, as a person does by `ledgerfeed backfill`: it
// compares documents, and so finds what nothing told of. What was not as it should be
// before stays on record.
func (r *run) loadAll(ctx context.Context) error {
	r.mu.Lock()
	r.before, r.loading = r.differs, true
	needed := len(r.purged) > 0 || r.effects.silent
	r.mu.Unlock()
	if !needed {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.o.Settle)
	defer cancel()
	for _, realm := range r.plant.realms {
		err := until(ctx, func(ctx context.Context) error {
			_, _, err := r.plant.state.Ask(ctx, store.Job{Realm: realm, Load: true, By: "chaos"})
			return err
		})
		if err != nil {
			return fmt.Errorf("ask for a full load: %w", err)
		}
	}
	r.note("settle", "", "everything is loaded again")
	return r.awaitEqual(ctx, false)
}

// heal ends what a fault may have left.
func (p *plant) heal() {
	for _, links := range p.links {
		for _, l := range links {
			l.Heal()
		}
	}
	p.cluster.heal()
	for _, one := range p.replicas() {
		if one.control != "" {
			_ = one.steer("") // a fault that failed to end
		}
	}
	for _, s := range p.servers() {
		_ = s.resume() // fails for one that is down
		s.up()
	}
	for _, one := range p.replicas() {
		_ = one.resume()
		one.up()
	}
	p.endpoint.set(willing)
	p.books.alter(func(f *qbosim.Faults) { *f = qbosim.Faults{Latency: baseLatency} })
	p.books.SetUnselected(nil)
}

// roomWait is how much longer what is left may take: a dead letter that found no room is
// stored up to five minutes later.
func (r *run) roomWait() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.made["dead-full"] {
		return 6 * time.Minute
	}
	return 0
}

const poll = 300 * time.Millisecond

// awaitDrained waits until nothing waits on the streams.
func (r *run) awaitDrained(ctx context.Context) error {
	// The calls of a process that was killed count for 130 s: until then its company
	// may get no turn.
	ctx, cancel := context.WithTimeout(ctx, r.o.Settle*3/4+r.roomWait())
	defer cancel()
	last := "the streams were not looked at"
	for {
		_ = r.lookEqual(ctx, true) // notes when the sinks were equal first
		left, err := r.plant.waiting(ctx, !r.effects.withholds)
		switch {
		case err == nil && left == 0:
			return nil
		case err != nil && ctx.Err() == nil:
			last = err.Error()
		case err == nil:
			last = fmt.Sprintf("%d messages wait on the streams", left)
		}
		if err := lifecycle.Sleep(ctx, poll); err != nil {
			return errors.New(last)
		}
	}
}

// requeueDeletions is what docs/deadletters.md asks of a person who has connected
// companies again: the first load brings everything but the deletions of what CDC leaves
// out, and Redis, with the marks, may have forgotten that a sink held such a record.
func (r *run) requeueDeletions(ctx context.Context) error {
	var letters []stream.DeadLetter
	deletes := func(e *ledgerfeedv1.Event) bool {
		return e.GetOperation() == ledgerfeedv1.Operation_OPERATION_DELETE && !listed(e.GetEntity())
	}
	unconnected := stream.DeadFilter{Reasons: []stream.Reason{stream.ReasonRealmNotConnected}}
	err := until(ctx, func(ctx context.Context) error {
		letters = nil
		return r.plant.conn.EachDead(ctx, unconnected, func(d stream.DeadLetter) error {
			if d.RealmID != stranger && slices.ContainsFunc(d.Envelope.GetEvents(), deletes) {
				letters = append(letters, d)
			}
			return nil
		})
	})
	if err != nil || len(letters) == 0 {
		return err
	}
	for _, d := range letters {
		err := until(ctx, func(ctx context.Context) error { _, err := r.plant.conn.Requeue(ctx, d); return err })
		if err != nil {
			return err
		}
	}
	r.note("settle", "", fmt.Sprintf("%d dead letters are requeued", len(letters)))
	return r.awaitDrained(ctx)
}

// awaitEqual waits until both sinks are as the books.
func (r *run) awaitEqual(ctx context.Context, after bool) error {
	wait := r.o.Settle
	if !after {
		wait = startWait
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		err := r.lookEqual(ctx, after)
		if err == nil {
			r.note("settle", "", "the sinks are as the books")
			return nil
		}
		if lifecycle.Sleep(ctx, poll) != nil {
			return fmt.Errorf("the sinks are not as the books: %w", err)
		}
	}
}

// sweptFrom is the speed of Intuit's clock from which on two sweeps 15 minutes apart fit
// into the time to settle.
const sweptFrom = 10

// lookEqual compares both sinks with the books. Once they are equal after the load
// they stay so: the time of the first time counts.
func (r *run) lookEqual(ctx context.Context, after bool) error {
	truth := r.plant.books.truth()
	table, err := r.plant.database.rows(ctx)
	if err != nil {
		return err
	}
	but := excuses{untold: r.cursors.leftOut(), neverWas: r.plant.books.neverWas, unswept: r.speed < sweptFrom}
	r.mu.Lock()
	if !r.loading {
		but.pending = maps.Clone(r.purged)
		if r.effects.silent {
			maps.Copy(but.pending, r.plant.books.unannounced())
		}
	}
	r.mu.Unlock()
	differs := map[string]difference{sinkTable: compare(truth, table, but), sinkPost: compare(truth, r.plant.endpoint.rows(), but)}
	var text []string
	for _, name := range []string{sinkTable, sinkPost} {
		if d := differs[name]; !d.equal() {
			text = append(text, name+": "+d.String())
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.differs = differs
	if after && (len(text) > 0 || r.recovery == 0) {
		r.recovery = time.Since(r.lastEnd)
	}
	if len(text) > 0 {
		return errors.New(strings.Join(text, "; "))
	}
	return nil
}

// reconnect is a person who connects all companies again, once Redis is back.
func (r *run) reconnect(ctx context.Context) error {
	if err := until(ctx, r.plant.state.Ping); err != nil {
		return err
	}
	for _, realm := range r.plant.realms {
		if err := until(ctx, func(ctx context.Context) error { return r.plant.consent(ctx, realm) }); err != nil {
			return err
		}
	}
	return nil
}
