// Package erasure deletes everything that is kept of a company: tokens, marks, cursors,
// statistics, gaps, dead letters and queued messages, and on request what the sinks hold.
//
// It guarantees that nothing is kept again afterwards. First the record of the connection is
// replaced by the note that the realm was erased: from then on processors and reconcilers
// drop what comes for it. Then it waits until what they had begun before is over, and only
// then deletes. Interrupted or failed, run it again.
//
// What stays is that note, until the company is connected again, and the log of actions. It
// cannot delete what others hold: receivers of webhooks, subscribers, backups, logs. The
// [Report] names these. A process that was stopped for longer than it waited, with a change
// in hand, may still write that change: run it again then.
package erasure

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

var (
	// ErrConnected: the company is connected, and nobody has insisted.
	ErrConnected = errors.New("the company is connected: disconnect it first, or insist with --force")
	// ErrNothing: there is nothing to erase.
	ErrNothing = errors.New("nothing is kept of the company")
	// ErrBusy: a scan of the realm did not end.
	ErrBusy = errors.New("a scan of the company does not end: run it again")
	// ErrAgain: what was deleted is there again.
	ErrAgain = errors.New("a service keeps writing data of the company: are all services of this version? run it again")
)

// Options say what to erase from. State, Stream and Connections are required.
type Options struct {
	State       *state.Store
	Stream      *stream.Conn
	Connections *connection.Store
	// Revoker revokes the authorisation of a company that is still connected.
	Revoker connection.Revoker
	// Sinks has what the sinks of Processor hold deleted too.
	Sinks     bool
	Processor processor.ProcessorConfig
	// Force erases a company that is connected.
	Force bool
	// By is who asked, for the note that stays.
	By     string
	Logger *zap.Logger
	// Progress hears of each step.
	Progress func(step string)
}

// Report is what was erased, or would be.
type Report struct {
	Realm   string                 `json:"realm"`
	Redis   map[string]int         `json:"redis"`   // keys and members by kind
	Streams map[string]uint64      `json:"streams"` // messages
	Sinks   []processor.ErasedSink `json:"sinks,omitempty"`
	// Left is what was not erased and why, for people.
	Left []string `json:"left"`
}

const (
	// leaseTime is how long the others leave a realm to one that has died meanwhile.
	leaseTime = time.Minute
	// leaseWait is how long a scan under way has to notice that it must end.
	leaseWait = 3 * time.Minute
	// noticed is how long services go by what they knew of a realm, and some more.
	noticed = 5 * time.Second
	// passes bounds how often it is looked whether all is gone.
	passes = 5
)

// Run erases a company.
type Run struct {
	Options
	realm string
}

// New prepares the erasure of a company.
func New(realm string, o Options) *Run {
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	return &Run{o, realm}
}

// Check says why the company may not be erased now, if so.
func (r *Run) Check(ctx context.Context) error {
	c, err := r.Connections.Get(ctx, r.realm)
	switch {
	case errors.Is(err, connection.ErrNotConnected): // never, lost, or erased before
		return nil
	case err != nil && c.RealmID == "":
		return err
	case c.State != connection.Disconnected && !r.Force:
		return ErrConnected
	}
	return nil
}

// Look counts what would be erased. If there is nothing the error is [ErrNothing].
func (r *Run) Look(ctx context.Context) (Report, error) {
	report, err := r.pass(ctx, true, true)
	if err != nil {
		return report, err
	}
	_, err = r.Connections.Get(ctx, r.realm)
	if report.empty() && errors.Is(err, connection.ErrNotConnected) && !errors.Is(err, connection.ErrErased) {
		return report, ErrNothing
	}
	report.Left = r.left(report, nil)
	return report, nil
}

// Erase deletes everything. After an error run it again.
func (r *Run) Erase(ctx context.Context) (Report, error) {
	if err := r.Check(ctx); err != nil {
		return Report{}, err
	}
	notes := r.revoke(ctx)
	r.Progress("marking the company as erased")
	if err := r.Connections.Erase(ctx, r.realm, "erased by "+r.By); err != nil {
		return Report{}, err
	}
	lease, err := r.lease(ctx)
	if err != nil {
		return Report{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	renewed := make(chan struct{})
	go func() { defer close(renewed); r.renew(ctx, lease, cancel) }()
	report, err := r.whileLeased(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = errors.Join(cause, err)
	}
	cancel(nil)
	<-renewed
	err = errors.Join(err, lease.Release(ctx))
	if err == nil {
		_, err = r.State.EraseRealm(context.WithoutCancel(ctx), r.realm, false, r.record()) // the lease's own traces
	}
	report.Left = r.left(report, notes)
	return report, err
}

// revoke ends the authorisation of a company that is erased by force. What Intuit does not
// confirm is noted: the tokens are forgotten all the same.
func (r *Run) revoke(ctx context.Context) []string {
	c, err := r.Connections.Get(ctx, r.realm)
	if c.RealmID == "" || c.State == connection.Disconnected {
		return nil
	}
	active := []string{"the authorisation at Intuit may still be active: " + connection.OwnerEnds}
	if r.Revoker == nil || err != nil {
		return active // its token does not open
	}
	r.Progress("revoking the authorisation at Intuit")
	confirmed, err := r.Connections.Revoke(ctx, r.realm, connection.Disconnected, "erased by request", r.Revoker)
	if err != nil || !confirmed {
		return active
	}
	return nil
}

func (r *Run) whileLeased(ctx context.Context) (Report, error) {
	running, err := r.running(ctx)
	if err != nil {
		return Report{}, err
	}
	if running {
		wait := noticed + r.Processor.WriteTimeout
		r.Progress(fmt.Sprintf("waiting %s for what the services had begun", wait))
		if err := lifecycle.Sleep(ctx, wait); err != nil {
			return Report{}, err
		}
	}
	r.Progress("deleting")
	report, err := r.pass(ctx, false, true)
	if err != nil {
		return report, err
	}
	for range passes {
		r.Progress("looking whether all is gone")
		again, err := r.pass(ctx, false, false)
		if err != nil {
			return report, err
		}
		if again.empty() {
			return report, nil
		}
		report.add(again)
		if err := lifecycle.Sleep(ctx, time.Second); err != nil {
			return report, err
		}
	}
	return report, ErrAgain
}

// running reports whether services run that may have data of the company in hand.
func (r *Run) running(ctx context.Context) (bool, error) {
	for _, service := range []string{"processor", "reconciler"} {
		replicas, err := r.State.Replicas(ctx, service)
		if err != nil {
			return false, err
		}
		if len(replicas) > 0 {
			return true, nil
		}
	}
	return false, nil
}

// pass deletes what there is, or counts it. First the streams: what is on them leads to
// keys and rows.
func (r *Run) pass(ctx context.Context, dryRun, sinks bool) (report Report, err error) {
	report.Realm = r.realm
	if report.Streams, err = r.Stream.EraseRealm(ctx, r.realm, r.Sinks, dryRun); err != nil {
		return report, err
	}
	if sinks && r.Sinks {
		processors, err := r.State.Replicas(ctx, "processor")
		if err != nil {
			return report, err
		}
		if report.Sinks, err = processor.EraseFromSinks(ctx, r.Processor, r.realm, len(processors) > 0, dryRun, r.Logger); err != nil {
			return report, err
		}
	}
	lease := reconciler.LeaseName(r.realm)
	report.Redis, err = r.State.EraseRealm(ctx, r.realm, dryRun, r.record(), state.TempKey("lease", lease), state.TempKey("fence", lease))
	return report, err
}

func (r *Run) record() string { return connection.RecordKey(r.realm) }

// lease keeps scans away, after the one that is under way.
func (r *Run) lease(ctx context.Context) (*state.Lease, error) {
	for waited := time.Duration(0); ; waited += time.Second / 4 {
		lease, err := r.State.Lease(ctx, reconciler.LeaseName(r.realm), leaseTime)
		if !errors.Is(err, state.ErrHeld) {
			return lease, err
		}
		if waited == 0 {
			r.Progress("waiting for a scan to end")
		}
		if waited > leaseWait {
			return nil, ErrBusy
		}
		if err := lifecycle.Sleep(ctx, time.Second/4); err != nil {
			return nil, err
		}
	}
}

func (r *Run) renew(ctx context.Context, lease *state.Lease, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(leaseTime / 3)
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
	}
}

// left names what is not erased.
func (r *Run) left(report Report, notes []string) []string {
	left := notes
	if !r.Sinks {
		left = append(left, "sinks: what they hold stays; --sinks deletes it from PostgreSQL, from files and from LF_CHANGES")
	}
	for _, s := range report.Sinks {
		if s.Left != "" {
			left = append(left, fmt.Sprintf("sink %s (%s): %s", s.Sink, s.Kind, s.Left))
		}
	}
	return append(left,
		"the log of actions, which says who did what",
		"the note that the company was erased, until it is connected again",
		"backups of Redis, of NATS and of your databases, and logs: delete them by your own rules")
}

// empty reports whether nothing was found in Redis and on the streams, nor rows.
func (r Report) empty() bool {
	n := 0
	for _, found := range r.Redis {
		n += found
	}
	for _, found := range r.Streams {
		n += int(found)
	}
	for _, s := range r.Sinks {
		for _, found := range s.Removed {
			n += int(found)
		}
	}
	return n == 0
}

func (r *Report) add(more Report) {
	for kind, n := range more.Redis {
		r.Redis[kind] += n
	}
	for name, n := range more.Streams {
		r.Streams[name] += n
	}
}
