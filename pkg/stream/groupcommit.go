package stream

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

const (
	// few is how many messages in flight are published each for itself: a batch
	// costs the broker as much as some dozen syncs, however small it is: it makes and
	// removes a store of its own.
	few = 16
	// A batch ends at the broker's own limit, or at a size that it takes in well
	// within a caller's patience.
	maxBatch      = 1000
	maxBatchBytes = 4 << 20
)

// group makes many publishes share one sync to disk. A broker of one replica
// with sync_interval: always syncs each message by itself, some thousand a
// second; of an atomic batch it syncs the whole.
//
// It adds no latency when idle: few messages go out at once, each for itself.
// Only what arrives while those, or a batch, are in flight is gathered, and goes
// out together when they are done.
//
// A batch that the broker refuses has stored nothing: its messages go out again
// in halves, and in the end each for itself, so that one message the broker has
// already (which refuses the whole batch) delays the others and loses none.
type group struct {
	conn *Conn

	mu      sync.Mutex              // guards what follows
	single  int                     // messages in flight, each for itself
	waiting []*publish              // gathered, oldest first
	running bool                    // a goroutine sends what is gathered
	abort   context.CancelCauseFunc // of the batch in flight
	closed  bool
	done    sync.WaitGroup // the goroutine
}

// publish is one call of Publish.
type publish struct {
	msgs  []*nats.Msg
	gone  <-chan struct{} // closed when nobody waits for the outcome any more
	ended chan error      // takes the outcome, once
}

func (g *group) publish(ctx context.Context, msgs []*nats.Msg) error {
	if !g.conn.batches.Load() {
		return errors.Join(g.conn.each(ctx, msgs)...)
	}
	first := id(msgs[0]) // now: once joined, the messages are the goroutine's
	p := g.join(ctx, msgs)
	if p == nil {
		defer g.leave(ctx, len(msgs))
		return errors.Join(g.conn.each(ctx, msgs)...)
	}
	select {
	case err := <-p.ended:
		return err
	case <-ctx.Done():
		return notDurable(first, ctx.Err())
	}
}

// join gathers the messages, or returns nil if they shall go out each for itself.
func (g *group) join(ctx context.Context, msgs []*nats.Msg) *publish {
	g.mu.Lock()
	defer g.mu.Unlock()
	idle := !g.running && len(g.waiting) == 0 && g.single+len(msgs) <= few
	if idle || g.closed || g.conn.tooLarge(msgs) {
		g.single += len(msgs)
		return nil
	}
	p := &publish{msgs: msgs, gone: ctx.Done(), ended: make(chan error, 1)}
	g.waiting = append(g.waiting, p)
	g.startLocked(ctx)
	return p
}

func (g *group) leave(ctx context.Context, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.single -= n
	g.startLocked(ctx)
}

// startLocked sends what is gathered once nothing else is in flight. Of ctx only
// the values count.
func (g *group) startLocked(ctx context.Context) {
	if g.running || g.closed || g.single > 0 || len(g.waiting) == 0 {
		return
	}
	g.running = true
	base := context.WithoutCancel(ctx)
	g.done.Go(func() {
		for next := g.take(); next != nil; next = g.take() {
			g.send(base, next)
		}
	})
}

// take returns the publishes of the next batch; those nobody waits for any more
// are left out.
func (g *group) take() []*publish {
	g.mu.Lock()
	defer g.mu.Unlock()
	var next []*publish
	n, size := 0, 0
	for len(g.waiting) > 0 {
		p := g.waiting[0]
		if !p.left() {
			n += len(p.msgs)
			size += dataSize(p.msgs)
			if len(next) > 0 && (n > maxBatch || size > maxBatchBytes) {
				break
			}
			next = append(next, p)
		}
		g.waiting[0] = nil
		g.waiting = g.waiting[1:]
	}
	g.running = len(next) > 0
	return next
}

// left reports whether the caller has given up.
func (p *publish) left() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

func dataSize(msgs []*nats.Msg) (n int) {
	for _, m := range msgs {
		n += len(m.Data)
	}
	return n
}

// send publishes the messages of all and tells each its outcome.
func (g *group) send(ctx context.Context, all []*publish) {
	ctx, cancel := context.WithTimeout(ctx, g.conn.cfg.PublishTimeout)
	defer cancel()
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	g.setAbort(abort)
	defer g.setAbort(nil)

	// The same body may come twice at the same moment, and a batch with an id
	// twice is refused.
	var msgs []*nats.Msg
	outcome := map[string]error{}
	for _, p := range all {
		for _, m := range p.msgs {
			if _, ok := outcome[id(m)]; !ok {
				outcome[id(m)] = nil
				msgs = append(msgs, m)
			}
		}
	}
	for part := range slices.Chunk(msgs, maxBatch) {
		g.store(ctx, part, outcome)
	}
	for _, p := range all {
		var errs []error
		for _, m := range p.msgs {
			errs = append(errs, outcome[id(m)])
		}
		p.ended <- errors.Join(errs...)
	}
}

func (g *group) setAbort(abort context.CancelCauseFunc) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.abort = abort; g.closed && abort != nil {
		abort(ErrClosed)
	}
}

// store publishes msgs as one batch, or in halves if the broker refuses that,
// and puts what failed into outcome.
func (g *group) store(ctx context.Context, msgs []*nats.Msg, outcome map[string]error) {
	if len(msgs) <= few {
		g.apart(ctx, msgs, outcome)
		return
	}
	_, err := jetstreamext.PublishMsgBatch(ctx, g.conn.js, msgs, jetstreamext.BatchFlowControl{})
	g.conn.metrics.committed(len(msgs), err)
	var api *jetstream.APIError
	switch {
	case err == nil:
	case !errors.As(err, &api):
		// No answer: it may be stored.
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		for _, m := range msgs {
			outcome[id(m)] = notDurable(id(m), err)
		}
	case api.ErrorCode == jetstreamext.JSErrCodeBatchPublishDuplicateMsgID:
		half := len(msgs) / 2
		g.store(ctx, msgs[:half], outcome)
		g.store(ctx, msgs[half:], outcome)
	default:
		g.apart(ctx, msgs, outcome)
	}
}

// apart publishes each message for itself.
func (g *group) apart(ctx context.Context, msgs []*nats.Msg, outcome map[string]error) {
	for _, m := range msgs {
		for _, h := range []string{jetstreamext.BatchIDHeader, jetstreamext.BatchSeqHeader, jetstreamext.BatchCommitHeader} {
			m.Header.Del(h)
		}
	}
	for i, err := range g.conn.each(ctx, msgs) {
		outcome[id(msgs[i])] = err
	}
}

// disconnected ends the batch in flight: its answer would have come by the
// connection that is gone, and what is gathered must not wait for it.
func (g *group) disconnected() { g.end(errDisconnected) }

func (g *group) end(why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.abort != nil {
		g.abort(why)
	}
}

// close fails what is gathered or in flight and waits for the goroutine.
func (g *group) close() {
	g.mu.Lock()
	g.closed = true
	for _, p := range g.waiting {
		p.ended <- notDurable(id(p.msgs[0]), ErrClosed)
	}
	g.waiting = nil
	g.mu.Unlock()
	g.end(ErrClosed)
	g.done.Wait()
}

var errDisconnected = errors.New("the broker disconnected")

func id(m *nats.Msg) string { return m.Header.Get(jetstream.MsgIDHeader) }
