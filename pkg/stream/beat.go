package stream

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
)

// beatSubject is in no stream: a beat is heard by who listens, or by nobody.
const beatSubject = "lf.beat."

// Beat says that a replica of a service lives and can do its work.
func (c *Conn) Beat(_ context.Context, service string) error {
	if err := c.nc.Publish(beatSubject+service, nil); err != nil {
		return fmt.Errorf("heartbeat of %s: %w", service, err)
	}
	return nil
}

// Beats calls heard for each beat of the service, in a goroutine of the connection,
// until stop is called or the connection closed. While the connection is down none is
// heard.
func (c *Conn) Beats(service string, heard func()) (stop func(), err error) {
	sub, err := c.nc.Subscribe(beatSubject+service, func(*nats.Msg) { heard() })
	if err != nil {
		return nil, fmt.Errorf("subscribe to the heartbeats of %s: %w", service, err)
	}
	return func() { _ = sub.Unsubscribe() }, nil // it ends with the connection else
}
