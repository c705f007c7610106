package ingress

import (
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// report counts a request that is answered, and logs it in one line. Neither the
// body nor the signature is in it.
func (s *Server) report(r *request, o outcome, cause error) {
	took := time.Since(r.began)
	s.metrics.answered(r.app, o, took)
	fields := []zap.Field{
		telemetry.Outcome(string(o)), telemetry.App(r.app.label()), telemetry.Address(r.peer), telemetry.Took(took),
	}
	switch {
	case o == stored:
		s.metrics.events.WithLabelValues(r.app.name).Add(float64(r.tally.events))
		s.metrics.dead.WithLabelValues(r.app.name).Add(float64(r.tally.dead))
		s.metrics.bytes.WithLabelValues(r.app.name).Add(float64(r.bytes))
		fields = append(fields, telemetry.Count(r.tally.events), telemetry.Bytes(r.bytes), telemetry.TID(r.tid))
		if r.tally.dead > 0 {
			s.log.Warn("notification stored in part as dead letters", fields...)
			return
		}
		s.log.Debug("notification stored", fields...)
	case errors.Is(cause, errPanic):
		s.log.Error("request crashed", append(fields, telemetry.Error(cause))...)
	case o == unavailable:
		s.log.Warn("notification not stored", append(fields, telemetry.TID(r.tid), telemetry.Error(cause))...)
	case o == badSignature || o == overloaded:
		// Strangers can make as many of these as they like. One line a minute is
		// enough to find a wrong token.
		if unseen, ok := s.refusals[o].pass(time.Now()); ok {
			s.log.Warn("notification refused", append(fields, telemetry.Error(cause), telemetry.Count(unseen))...)
		}
	default:
		s.log.Debug("request refused", append(fields, telemetry.Error(cause))...)
	}
}

// throttle lets one through each minute and counts the others.
type throttle struct {
	mu     sync.Mutex // guards what follows
	next   time.Time
	unseen int
}

// pass reports whether this one may be seen, and how many were not since the last.
func (t *throttle) pass(now time.Time) (unseen int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.next) {
		t.unseen++
		return 0, false
	}
	unseen, t.unseen, t.next = t.unseen, 0, now.Add(time.Minute)
	return unseen, true
}
