package stream

import (
	"context"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
)

// Gaps is the queue of what is noted in the ledger of gaps, for those who keep it. It
// is no work queue: each durable is given all of it, what was stored before it began
// included.
const Gaps Queue = "gaps"

// GapMessage are gaps of one realm.
type GapMessage struct {
	RealmID string
	// ID is the Nats-Msg-Id.
	ID   string
	Data []byte
}

// PublishGaps puts gaps on LF_GAPS and waits for the broker's acknowledgement;
// otherwise the error is ErrNotDurable.
func (c *Conn) PublishGaps(ctx context.Context, m GapMessage) error {
	return c.publishOne(ctx, message(GapStream, "lf.gap."+envelope.RealmToken(m.RealmID), m.ID, m.Data))
}
