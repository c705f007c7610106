package ingress

import (
	"context"
	"errors"
	"fmt"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// store puts a verified body on the stream, one envelope per realm, and what
// cannot be read of it into the dead letters. It returns nil only when the
// broker has acknowledged all of it (I1); after an error Intuit sends the whole
// body again, and the ids make the broker drop what it has already.
func (s *Server) store(ctx context.Context, r request) error {
	notification, err := webhook.Parse(r.body)
	if err != nil {
		s.metrics.dead.WithLabelValues(r.app).Inc()
		return s.bury(ctx, r, "", r.body, err.Error())
	}
	for _, rejected := range notification.Rejected {
		s.metrics.dead.WithLabelValues(r.app).Inc()
		if err := s.bury(ctx, r, rejected.RealmID, rejected.Raw, rejected.Reason); err != nil {
			return err
		}
	}
	envs := envelope.FromNotification(r.body, notification, envelope.Meta{
		App: r.app, IntuitTID: r.tid, Traceparent: r.trace, ReceivedAt: r.received,
	})
	if len(envs) == 0 {
		return nil
	}
	err = s.publish.Publish(ctx, envs...)
	var invalid *envelope.InvalidError
	if errors.As(err, &invalid) || errors.Is(err, stream.ErrTooLarge) {
		// Sent again it would fail again and withhold every later event.
		s.metrics.dead.WithLabelValues(r.app).Inc()
		return s.bury(ctx, r, "", r.body, err.Error())
	}
	if err != nil {
		return err
	}
	s.metrics.events.WithLabelValues(r.app, string(notification.Format)).Add(float64(len(notification.Events)))
	return nil
}

// bury stores raw bytes as a dead letter, in several if the broker takes no
// message of that size.
func (s *Server) bury(ctx context.Context, r request, realm string, raw []byte, why string) error {
	size := max(s.publish.MaxBody(), 1)
	parts := (len(raw) + size - 1) / size
	for i := range max(parts, 1) {
		detail := why
		if parts > 1 {
			detail = fmt.Sprintf("part %d of %d: %s", i+1, parts, why)
		}
		if err := s.publish.PublishDead(ctx, stream.DeadLetter{
			Reason: stream.ReasonUnreadable, Detail: detail, RealmID: realm, App: r.app,
			Body: raw[min(i*size, len(raw)):min((i+1)*size, len(raw))], Attempts: 1, FirstSeen: r.received, At: r.received,
		}); err != nil {
			return err
		}
	}
	return nil
}
