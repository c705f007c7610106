package ingress

import (
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// report counts a request that is answered, and logs it in one line. Neither the
// body nor the signature is in it.
func (s *Server) report(r *request, o outcome, cause error) {
	took := time.Since(r.began)
	s.metrics.answered(r.app, o, took)
	if o == stored {
		s.metrics.kept(r)
	}
	line := s.line(r, o, cause)
	if line == nil {
		return
	}
	fields := []zap.Field{
		telemetry.Outcome(string(o)), telemetry.App(r.app.label()), telemetry.Address(r.peer), telemetry.Took(took),
	}
	if r.bytes > 0 {
		fields = append(fields, telemetry.Count(r.tally.events), telemetry.Bytes(r.bytes), telemetry.TID(r.tid))
	}
	if r.trace != "" {
		fields = append(fields, telemetry.Trace(r.trace))
	}
	if r.by != nil {
		fields = append(fields, telemetry.Reason("signed with a token of app "+r.by.name+": is its address in Intuit's portal right?"))
	}
	if cause != nil {
		fields = append(fields, telemetry.Error(cause))
	}
	line.Write(fields...)
}

// line is the line to write, or nil for none: fields that nobody reads would be
// made for each request.
func (s *Server) line(r *request, o outcome, cause error) *zapcore.CheckedEntry {
	switch {
	case o == stored && r.tally.dead > 0:
		return s.log.Check(zap.WarnLevel, "notification stored in part as dead letters")
	case o == stored && s.access.Allow():
		return s.log.Check(zap.InfoLevel, "notification stored")
	case o == stored:
		return s.log.Check(zap.DebugLevel, "notification stored")
	case errors.Is(cause, errPanic):
		return s.log.Check(zap.ErrorLevel, "request crashed")
	case o == unavailable:
		return s.log.Check(zap.WarnLevel, "notification not stored")
	case o == badSignature || o == overloaded:
		// Strangers can make as many of these as they like. One line a minute is
		// enough to find a wrong token.
		if s.refusals[o].pass(time.Now()) {
			return s.log.Check(zap.WarnLevel, "notification refused")
		}
		return nil
	default:
		return s.log.Check(zap.DebugLevel, "request refused")
	}
}

// throttle lets one through each minute. How many there were is counted.
type throttle struct {
	mu   sync.Mutex // guards what follows
	next time.Time
}

// pass reports whether this one may be seen.
func (t *throttle) pass(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.next) {
		return false
	}
	t.next = now.Add(time.Minute)
	return true
}
