package stream

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// ErrUnreadable: what a dead letter holds is still no event, so there is nothing
// to deliver.
var ErrUnreadable = errors.New("it still cannot be read")

// Revive makes the envelopes that have the events of d delivered: marked as a
// replay, so that no mark hides them, and for the sink that d is about, if it is
// about one. Bytes that could not be read are read again: the program may have
// learned to. The error, ErrUnreadable, says what still cannot be; of a body that
// can be read in part there are envelopes too.
//
// The same letter has the same envelopes each time, so that the broker drops
// those of a requeue that is repeated at once, and no other letter has them.
func (d DeadLetter) Revive() ([]*ledgerfeedv1.Envelope, error) {
	envs, err := d.envelopes()
	var revived []*ledgerfeedv1.Envelope
	for i, e := range envs {
		seed := fmt.Sprintf("dead letter %d of %d, %s, %d", d.Seq, d.At.UnixNano(), d.ID, i)
		meta := envelope.Meta{App: cmp.Or(e.GetApp(), d.App), IntuitTID: e.GetIntuitTid(), Traceparent: e.GetTraceparent(), ReceivedAt: d.FirstSeen}
		if at := e.GetReceivedAt(); at != nil {
			meta.ReceivedAt = at.AsTime()
		}
		for _, part := range envelope.New(ledgerfeedv1.Source_SOURCE_REPLAY, e.GetRealmId(), seed, e.GetEvents(), meta) {
			part.Sink = cmp.Or(d.Sink, e.GetSink())
			revived = append(revived, part)
		}
	}
	return revived, err
}

// envelopes are those in d, or what its bytes can be read as.
func (d DeadLetter) envelopes() ([]*ledgerfeedv1.Envelope, error) {
	if d.Envelope != nil {
		return []*ledgerfeedv1.Envelope{d.Envelope}, nil
	}
	// JSON is never a protobuf of an envelope, nor the other way round.
	if e, err := envelope.Decode(d.Body); err == nil {
		return []*ledgerfeedv1.Envelope{e}, nil
	} else if d.Reason == ReasonInvalidEnvelope {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	if strings.HasPrefix(d.Detail, "part ") {
		return nil, fmt.Errorf("%w: it is a part of a body (%s): join the parts of `ledgerfeed dead show --raw` and post them with `ledgerfeed send`", ErrUnreadable, d.Detail)
	}
	return d.parse()
}

// parse reads a body, or one item of one.
func (d DeadLetter) parse() ([]*ledgerfeedv1.Envelope, error) {
	body := d.Body
	n, err := webhook.Parse(body)
	if (err != nil || len(n.Events) == 0) && d.RealmID != "" {
		// The legacy format names the company around its items.
		item := fmt.Appendf(nil, `{"eventNotifications":[{"realmId":%q,"dataChangeEvent":{"entities":[%s]}}]}`, d.RealmID, d.Body)
		if legacy, failed := webhook.Parse(item); failed == nil && len(legacy.Events) > 0 {
			body, n, err = item, legacy, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	envs := envelope.FromNotification(body, n, envelope.Meta{App: d.App, ReceivedAt: d.FirstSeen})
	left := len(n.Rejected) + n.Unlisted
	switch {
	case left > 0:
		return envs, fmt.Errorf("%w: %d of its %d items, the first: %s", ErrUnreadable, left, left+len(n.Events), n.Rejected[0].Reason)
	case len(envs) == 0:
		return nil, fmt.Errorf("%w: it contains no event", ErrUnreadable)
	}
	return envs, nil
}
