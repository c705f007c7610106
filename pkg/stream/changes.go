package stream

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
)

// ChangeMessage is one change for the stream of the NATS sink.
type ChangeMessage struct {
	RealmID, Entity string
	// ID is the Nats-Msg-Id: the broker drops a second one within two minutes.
	ID   string
	Data []byte
}

// PublishChanges puts changes on LF_CHANGES, under lf.change.<realm>.<entity>, and
// waits for the broker's acknowledgement of each; see EnsureChanges. The result
// has an error for each, nil for those that are stored: otherwise ErrNotDurable,
// with ErrTooLarge where the server never takes it.
func (c *Conn) PublishChanges(ctx context.Context, changes ...ChangeMessage) []error {
	msgs := make([]*nats.Msg, len(changes))
	for i, change := range changes {
		msgs[i] = message(ChangeStream, changeSubject(change.RealmID, change.Entity), change.ID, change.Data)
	}
	errs := make([]error, len(msgs))
	err := c.publish(ctx, msgs, func(ctx context.Context, msgs []*nats.Msg) error {
		errs = c.each(ctx, msgs)
		return nil
	})
	if err != nil { // nothing was sent
		for i := range errs {
			errs[i] = err
		}
	}
	return errs
}

func changeSubject(realm, entity string) string {
	return fmt.Sprintf("lf.change.%s.%s", envelope.RealmToken(realm), envelope.RealmToken(entity))
}
