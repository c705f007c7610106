package stream

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// outbox publishes for all, so that no caller waits for longer than its context.
// The client has one lock, which it holds while it writes to a socket that takes
// no bytes, while it dials and until the server it dialled has said something:
// for seconds, and a call of its PublishMsgAsync waits for that lock. Here one
// goroutine waits in the place of the callers.
//
// The acknowledgements come by the client's handlers and not by its futures: a
// caller is woken once, when the last of its messages has its outcome.
type outbox struct {
	js     jetstream.JetStream
	orders chan *order // unbuffered: what waits stays its caller's, and goes with it
	closed chan struct{}
	done   sync.WaitGroup

	mu     sync.Mutex            // guards flying
	flying map[*nats.Msg]*parcel // not acknowledged yet
}

// order is the messages of one call.
type order struct {
	parcels []parcel
	done    chan struct{} // closed when every parcel has its outcome

	mu   sync.Mutex // guards left
	left int
}

// parcel is a message on its way. err is its outcome and seq its number on the stream,
// valid once the order is done.
type parcel struct {
	order *order
	msg   *nats.Msg
	seq   uint64
	err   error
}

func newOutbox() *outbox {
	return &outbox{orders: make(chan *order), closed: make(chan struct{}), flying: map[*nats.Msg]*parcel{}}
}

// start begins to publish by js, which must have been made with the handlers.
func (o *outbox) start(js jetstream.JetStream) {
	o.js = js
	o.done.Go(o.run)
}

func (o *outbox) handlers() []jetstream.JetStreamOpt {
	return []jetstream.JetStreamOpt{
		jetstream.WithPublishAsyncAckHandler(func(_ jetstream.JetStream, m *nats.Msg, ack *jetstream.PubAck) { o.landed(m, ack, nil) }),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, m *nats.Msg, err error) { o.landed(m, nil, err) }),
	}
}

// send publishes msgs and returns the outcome of each when it knows all of them. An
// error says that it does not: some may have been sent, or still be.
func (o *outbox) send(ctx context.Context, msgs []*nats.Msg) ([]parcel, error) {
	next := &order{parcels: make([]parcel, len(msgs)), done: make(chan struct{}), left: len(msgs)}
	for i, m := range msgs {
		next.parcels[i] = parcel{order: next, msg: m}
	}
	select {
	case o.orders <- next:
	case <-o.closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case <-next.done:
		return next.parcels, nil
	case <-o.closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (o *outbox) run() {
	for {
		select {
		case next := <-o.orders:
			for i := range next.parcels {
				o.publish(&next.parcels[i])
			}
		case <-o.closed:
			return
		}
	}
}

func (o *outbox) publish(p *parcel) {
	o.mu.Lock()
	o.flying[p.msg] = p
	o.mu.Unlock()
	if _, err := o.js.PublishMsgAsync(p.msg); err != nil {
		o.landed(p.msg, nil, err)
	}
}

// landed notes the outcome of a message, once: the client may tell of an error by
// its return and by its handler.
func (o *outbox) landed(m *nats.Msg, ack *jetstream.PubAck, err error) {
	o.mu.Lock()
	p, ok := o.flying[m]
	delete(o.flying, m)
	o.mu.Unlock()
	if !ok {
		return
	}
	if p.err = err; ack != nil {
		p.seq = ack.Sequence
	}
	p.order.mu.Lock()
	p.order.left--
	last := p.order.left == 0
	p.order.mu.Unlock()
	if last {
		close(p.order.done)
	}
}

// close waits for the goroutine; call it once, after the connection was closed.
func (o *outbox) close() {
	close(o.closed)
	o.done.Wait()
}
