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
type outbox struct {
	js     jetstream.JetStream
	orders chan *order // unbuffered: what waits stays its caller's, and goes with it
	closed chan struct{}
	done   sync.WaitGroup
}

// order is messages to be published. The outbox writes to it until it closes sent.
type order struct {
	msgs    []*nats.Msg
	parcels []parcel
	sent    chan struct{}
}

// parcel is a message on its way, or why it is not.
type parcel struct {
	ack jetstream.PubAckFuture
	err error
}

func newOutbox(js jetstream.JetStream) *outbox {
	o := &outbox{js: js, orders: make(chan *order), closed: make(chan struct{})}
	o.done.Go(o.run)
	return o
}

// send publishes msgs and returns without waiting for the acknowledgements. After
// an error some of them may have been sent, or still be.
func (o *outbox) send(ctx context.Context, msgs []*nats.Msg) ([]parcel, error) {
	next := &order{msgs: msgs, parcels: make([]parcel, len(msgs)), sent: make(chan struct{})}
	select {
	case o.orders <- next:
	case <-o.closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case <-next.sent:
		return next.parcels, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (o *outbox) run() {
	for {
		select {
		case next := <-o.orders:
			for i, m := range next.msgs {
				next.parcels[i].ack, next.parcels[i].err = o.js.PublishMsgAsync(m)
			}
			close(next.sent)
		case <-o.closed:
			return
		}
	}
}

// close waits for the goroutine; call it once, after the connection was closed.
func (o *outbox) close() {
	close(o.closed)
	o.done.Wait()
}
