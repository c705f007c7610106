package reconciler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/retry"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

var (
	errCancelled   = errors.New("cancelled by request")
	errUnverified  = errors.New("gaps were not delivered in time; cursors are kept, and the next scan finds the gaps again")
	errUnreadables = errors.New("some entities could not be read completely; their cursors are kept")
)

const (
	// reportEvery is how often the progress of a job is written down, and how soon
	// after a cancel it ends.
	reportEvery = time.Second
	// jobTries bounds how often a job is tried again at once that failed on the API or
	// a server of ours: for some minutes.
	jobTries = 8
)

// running is a job under way.
type running struct {
	r  *Reconciler
	mu sync.Mutex // guards job
	state.Job
}

// job runs a claimed scan that somebody asked for. A job whose replica died is taken
// by another, which goes on where the loads were.
func (r *Reconciler) job(ctx context.Context, j state.Job) outcome {
	w := &running{r: r, Job: j}
	resumed := !j.Started.IsZero()
	w.change(func(j *state.Job) {
		j.State, j.Error = state.JobRunning, ""
		if !resumed {
			j.Started = r.now()
		}
	})
	if j.Load && !resumed {
		if err := r.forgetLoaded(ctx, j); err != nil {
			r.log.Warn("job not started, will retry", telemetry.Realm(j.Realm), telemetry.Error(err))
			return outcome{err: err}
		}
	}
	working, cancel := context.WithCancelCause(ctx)
	var reporting sync.WaitGroup
	reporting.Go(func() { w.report(working, cancel) })
	out := w.run(working)
	cause := context.Cause(working)
	cancel(nil)
	reporting.Wait()
	if ctx.Err() != nil {
		return out // another replica, or the next start, goes on
	}
	w.end(ctx, out, cause)
	if errors.Is(cause, errCancelled) {
		out.err = errCancelled
	}
	return out
}

// forgetLoaded makes a load begin at the beginning.
func (r *Reconciler) forgetLoaded(ctx context.Context, j state.Job) error {
	loaded, err := r.state.Loaded(ctx, j.Realm)
	if err != nil {
		return err
	}
	o := order{entities: j.Entities}
	for entity := range loaded {
		if o.wants(entity) {
			if err := r.state.SetLoaded(ctx, j.Realm, entity, time.Time{}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *running) change(f func(*state.Job)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.Job)
}

func (w *running) snapshot() state.Job {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Job
}

// run scans until it succeeds, or fails on what trying again does not mend.
func (w *running) run(ctx context.Context) outcome {
	o := order{
		grace: w.r.config.Grace, entities: w.Entities, load: w.Load, everything: true, republish: true, wait: true,
		first: w.By == byFirstLoad, begun: w.Started,
		progress: func(p state.JobProgress, verifying bool) {
			w.change(func(j *state.Job) {
				j.Progress = p
				if verifying {
					j.State = state.JobVerifying
				}
			})
		},
	}
	var out outcome
	try := 0
	again := retry.Calls(jobTries, passing)
	again.Notify = func(err error, _ time.Duration) {
		w.r.log.Info("job retried", telemetry.Realm(w.Realm), telemetry.Attempt(try), telemetry.Error(err))
	}
	_ = again.Do(ctx, func() error { // its error is that of the last outcome, or the end of ctx
		if try++; try > 1 {
			w.change(func(j *state.Job) { j.State = state.JobRunning })
		}
		out = w.r.patient(ctx, w.Realm, o)
		return out.err
	})
	return out
}

// passing reports whether trying again may mend err.
func passing(err error) bool {
	if err == nil || errors.Is(err, errParked) || errors.Is(err, errNoSinks) || errors.Is(err, state.ErrBudget) {
		return false
	}
	if _, ok := waits(err); ok {
		return true
	}
	return qbo.Temporary(err) || errors.Is(err, errForgotten) || errors.Is(err, state.ErrLost) || errors.Is(err, stream.ErrNotDurable)
}

// report keeps the job's progress and its claim, and ends it when somebody wants so.
func (w *running) report(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		if w.r.erased(ctx, w.Realm) {
			cancel(connection.ErrErased)
			return
		}
		cancelled, err := w.r.state.Report(ctx, w.snapshot(), w.r.visibility())
		switch {
		case err != nil && ctx.Err() == nil:
			w.r.log.Debug("job progress not saved", telemetry.Realm(w.Realm), telemetry.Error(err))
		case cancelled:
			cancel(errCancelled)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// end writes down how the job ended.
func (w *running) end(ctx context.Context, out outcome, cause error) {
	if w.r.erased(ctx, w.Realm) {
		return // nothing is written down of it
	}
	ended, err := state.JobDone, out.err
	switch {
	case errors.Is(cause, errCancelled) && (out.err != nil || !out.verified):
		ended, err = state.JobCancelled, nil
	case err != nil:
		ended = state.JobFailed
	case !out.verified:
		ended, err = state.JobFailed, errUnverified
	case len(out.incomplete) > 0:
		ended, err = state.JobFailed, fmt.Errorf("%w: %v", errUnreadables, out.incomplete)
	}
	w.change(func(j *state.Job) {
		j.State, j.Ended, j.Note = ended, w.r.now(), refusalNote(out.refusals)
		if err != nil {
			j.Error = err.Error()
		}
	})
	w.r.metrics.jobs.WithLabelValues(string(ended)).Inc()
	if _, err := w.r.state.Report(ctx, w.snapshot(), 0); err != nil {
		w.r.log.Warn("job end not recorded; job will run again", telemetry.Realm(w.Realm), telemetry.Error(err))
	}
}

// byFirstLoad is who asks for a first load.
const byFirstLoad = "the schedule: first load"

// firstLoad scans a realm that was never scanned, as a job, so that its progress can
// be seen. If there is a job for the realm already, that one does it.
func (r *Reconciler) firstLoad(ctx context.Context, realm string) outcome {
	j, fresh, err := r.state.Track(ctx, state.Job{Realm: realm, By: byFirstLoad}, r.visibility())
	switch {
	case err != nil:
		return outcome{err: err}
	case !fresh:
		return outcome{err: state.ErrHeld}
	}
	return r.job(ctx, j)
}
