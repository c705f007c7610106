package tokenimport

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

// Outcome is what became of a line.
type Outcome string

const (
	// Imported: the company is connected with the token of the line.
	Imported Outcome = "imported"
	// Skipped: an earlier run has imported it.
	Skipped Outcome = "skipped"
	// Connected: Intuit does not take the token any more, but the company is connected,
	// with a newer one.
	Connected Outcome = "connected"
	// Failed: Result.Err says why. The company is as it was.
	Failed Outcome = "failed"
	// Unstored: the token was refreshed and the new one could not be stored.
	Unstored Outcome = "unstored"
)

// Result is what became of a line.
type Result struct {
	Line    int
	Realm   string
	Outcome Outcome
	Err     error // holds no token
	App     string
	// Token is that of an [Unstored] line: the only one Intuit takes. Do not lose it.
	Token qbo.Token
}

// Options of a run. Connections, App and Report are required.
type Options struct {
	Connections *connection.Store
	App         string // of lines that name none
	// Parallel is how many companies are imported at the same time; 4 if zero.
	Parallel int
	// Done says what an earlier run has imported; nil for nothing.
	Done *Done
	// Report is told of each line, one at a time, in no order. An error of it stops
	// the run.
	Report func(Result) error
}

const defaultParallel = 4

// Run imports the lines and returns when all it began is done. An error says why the
// rest was not tried: the end of ctx, or a server of ours that does not answer. Run it
// again then.
func Run(ctx context.Context, lines []Line, o Options) error {
	if o.Parallel <= 0 {
		o.Parallel = defaultParallel
	}
	r := run{Options: o}
	g, running := errgroup.WithContext(ctx)
	g.SetLimit(o.Parallel)
	for _, l := range lines {
		if running.Err() != nil {
			break
		}
		g.Go(func() error {
			if running.Err() != nil {
				return running.Err()
			}
			result, fatal := r.one(running, l)
			return errors.Join(r.report(result), fatal)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

type run struct {
	Options
	mu sync.Mutex // one report at a time
}

func (r *run) report(result Result) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Report(result)
}

// one imports a line. fatal is an error that the next lines would have, too.
func (r *run) one(ctx context.Context, l Line) (result Result, fatal error) {
	result = Result{Line: l.N, Realm: l.Realm, App: l.App, Outcome: Failed, Err: l.Err}
	if result.App == "" {
		result.App = r.App
	}
	switch {
	case l.Err != nil:
		return result, nil //nolint:nilerr // it is in the result
	case r.Done.Has(l):
		result.Outcome = Skipped
		return result, nil
	}
	err := r.Connections.Import(ctx, l.Realm, result.App, l.Refresh)
	var unstored *connection.UnstoredError
	var intuit *qbo.OAuthError
	switch {
	case errors.As(err, &unstored):
		result.Outcome, result.Token, result.Err = Unstored, unstored.Token, err
		return result, err
	case errors.Is(err, qbo.ErrInvalidGrant):
		return r.refused(ctx, result, err), nil
	case errors.As(err, &intuit) && intuit.Code == "invalid_client":
		result.Err = err
		return result, fmt.Errorf("intuit does not take qbo.client_id and qbo.client_secret: %w", err)
	case errors.Is(err, connection.ErrStore):
		result.Err = err
		return result, err
	case err != nil:
		result.Err = err
		return result, nil //nolint:nilerr // it is in the result
	}
	result.Outcome, result.Err = Imported, r.Done.Add(l)
	return result, result.Err
}

// refused tells a token that was replaced by one we have from one that is dead.
func (r *run) refused(ctx context.Context, result Result, err error) Result {
	result.Err = fmt.Errorf("intuit does not take the token (any more) for this app: take the newest one, or let the user connect again: %w", err)
	if c, err := r.Connections.Get(ctx, result.Realm); err == nil && c.State == connection.Live {
		result.Outcome, result.Err = Connected, nil
	}
	return result
}
