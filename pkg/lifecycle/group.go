package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// DefaultStopTimeout bounds the stop of a part when [Group] sets nothing else.
const DefaultStopTimeout = 30 * time.Second

// Group runs the parts of a program. Add them in the order they must start,
// what others stand on first: they stop in the reverse order, so that a part
// never loses what it uses. The zero value works. A Group is for one Run and is
// not safe for concurrent use before it.
type Group struct {
	// Logger tells of each start and stop at debug level; nil is silent.
	Logger *zap.Logger
	// StopTimeout bounds the stop of each part; 0 means [DefaultStopTimeout].
	StopTimeout time.Duration

	parts []*part
}

type part struct {
	name string
	// run blocks until its context ends; nil for a part that only has to be closed.
	run func(ctx context.Context) error
	// close is called in the part's turn to stop, after run has returned; may be nil.
	close func(ctx context.Context) error

	cancel context.CancelFunc
	ended  chan struct{}
	err    error // valid once ended is closed
}

// Go adds a part that runs until its context ends. When run returns an error
// the whole group stops; when it returns nil the others go on.
func (g *Group) Go(name string, run func(ctx context.Context) error) {
	g.parts = append(g.parts, &part{name: name, run: run})
}

// Start adds a part like Go and starts it at once, for what has to work before Run.
func (g *Group) Start(ctx context.Context, name string, run func(ctx context.Context) error) {
	p := &part{name: name, run: run}
	p.start(context.WithoutCancel(ctx))
	g.parts = append(g.parts, p)
}

// Defer adds something that is open already, to be closed in its turn. The
// context given to closing ends with the part's stop timeout.
func (g *Group) Defer(name string, closing func(ctx context.Context) error) {
	g.parts = append(g.parts, &part{name: name, close: closing})
}

// Run starts the parts in order and blocks until ctx ends, a part fails, or
// all parts added with [Group.Go] have ended by themselves. Then it stops them
// in reverse order, waiting for each at most StopTimeout, and returns what went
// wrong, each error with the name of its part. The end of ctx is no error.
//
// A part that does not stop in time is left behind with its goroutine, and the
// parts below it are stopped all the same: the process is about to end.
func (g *Group) Run(ctx context.Context) error {
	log := g.Logger
	if log == nil {
		log = zap.NewNop()
	}
	// Parts do not see the end of ctx by themselves, or they would all stop at once.
	base := context.WithoutCancel(ctx)
	failed := make(chan struct{}, len(g.parts))
	running := 0
	for _, p := range g.parts {
		if p.ended == nil {
			p.start(base)
		}
		if p.run == nil {
			continue
		}
		running++
		log.Debug("part started", zap.String("part", p.name))
		go func() {
			<-p.ended
			failed <- struct{}{}
		}()
	}
	g.wait(ctx, failed, running)

	timeout := g.StopTimeout
	if timeout == 0 {
		timeout = DefaultStopTimeout
	}
	var errs []error
	for i := len(g.parts) - 1; i >= 0; i-- {
		p := g.parts[i]
		started := time.Now()
		if err := p.stop(base, timeout); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
		}
		log.Debug("part stopped", zap.String("part", p.name), zap.Duration("took", time.Since(started)))
	}
	return errors.Join(errs...)
}

// wait returns when ctx ends, a part failed, or none of the running ones is left.
func (g *Group) wait(ctx context.Context, ended <-chan struct{}, running int) {
	for running > 0 {
		select {
		case <-ctx.Done():
			return
		case <-ended:
			running--
			if g.anyFailed() {
				return
			}
		}
	}
}

func (g *Group) anyFailed() bool {
	for _, p := range g.parts {
		select {
		case <-p.ended:
			if p.err != nil {
				return true
			}
		default:
		}
	}
	return false
}

// start runs the part until its context ends.
func (p *part) start(base context.Context) {
	ctx, cancel := context.WithCancel(base)
	p.cancel = cancel
	p.ended = make(chan struct{})
	if p.run == nil {
		close(p.ended)
		return
	}
	go func() {
		defer close(p.ended)
		p.err = p.run(ctx)
	}()
}

// stop ends one part within the timeout, which run and close share.
func (p *part) stop(base context.Context, timeout time.Duration) error {
	ctx, done := context.WithTimeout(base, timeout)
	defer done()
	p.cancel()
	select {
	case <-p.ended:
	case <-ctx.Done():
		return fmt.Errorf("not stopped after %s", timeout)
	}
	err := p.err
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	if p.close == nil {
		return err
	}
	closed := make(chan error, 1)
	go func() { closed <- p.close(ctx) }()
	select {
	case cerr := <-closed:
		return errors.Join(err, cerr)
	case <-ctx.Done():
		return errors.Join(err, fmt.Errorf("not closed after %s", timeout))
	}
}
