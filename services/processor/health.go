package processor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// maxRefused is how many records in a row a sink may refuse for good. One that refuses
// more, and takes none, has a fault of its own: they are not its records' that fail.
const maxRefused = 20

// health is what the last writes to a sink say of it. It logs when a sink goes down, when
// the reason changes, and when it is back; what fails in between is counted.
type health struct {
	log *zap.Logger
	now func() time.Time

	mu       sync.Mutex // guards what follows
	down     bool
	reason   string // of the last failure, as a label
	logged   string // the reason that was logged last
	err      error
	since    time.Time
	last     time.Time
	failures int               // in a row
	refused  map[sink.Ref]bool // records refused in a row; more are not counted
}

// judge returns what a write came to. A refusal is no refusal where the sink refuses all.
func (h *health) judge(changes []*ledgerfeedv1.Change, err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	partial, ok := errors.AsType[*sink.PartialError](err)
	switch {
	case ok && len(partial.Errs) == len(changes) && !took(err):
		judged := &sink.PartialError{Errs: make([]error, len(changes))}
		for i, c := range changes {
			judged.Errs[i] = h.refusalLocked(c, partial.Errs[i])
		}
		return judged
	case len(changes) == 1:
		return h.refusalLocked(changes[0], err)
	}
	return err // halves find out which records are refused
}

func (h *health) refusalLocked(c *ledgerfeedv1.Change, err error) error {
	if _, permanent := stream.AsPermanent(err); !permanent {
		return err
	}
	ref := sink.RefOf(c)
	if len(h.refused) < maxRefused {
		if h.refused == nil {
			h.refused = map[sink.Ref]bool{}
		}
		h.refused[ref] = true
	}
	if h.refused[ref] {
		return err
	}
	return sink.Because("refuses all", fmt.Errorf("more than %d records in a row are refused: %w", maxRefused, errors.New(err.Error()))) // for good it is not
}

// refusesAll reports whether the sink has taken none of many records.
func (h *health) refusesAll() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.refused) >= maxRefused
}

// took notes that the sink took a change.
func (h *health) took() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused = nil
	if h.down {
		h.log.Info("sink is back", telemetry.Took(h.now().Sub(h.since)), telemetry.Attempt(h.failures))
	}
	h.down, h.err, h.reason, h.logged, h.failures, h.since = false, nil, "", "", 0, time.Time{}
}

// failed notes that a write failed; down says that no more are made for a moment.
func (h *health) failed(err error, down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now, reason := h.now(), sink.ReasonOf(err)
	if h.failures == 0 {
		h.since = now
	}
	h.failures++
	h.last, h.err = now, err
	if h.reason = reason; down && h.logged != reason {
		h.log.Warn("sink is down", telemetry.Reason(reason), telemetry.Error(err), telemetry.Attempt(h.failures), telemetry.At(h.since))
		h.down, h.logged = true, reason
	}
}

// trouble is what there is to tell of a sink that is down.
func (o *output) trouble(replica string) (t state.SinkTrouble, reason string, down bool) {
	o.health.mu.Lock()
	defer o.health.mu.Unlock()
	h := &o.health
	if !h.down {
		return t, "", false
	}
	return state.SinkTrouble{
		Replica: replica, Error: h.err.Error(), Since: h.since, Last: h.last, Failures: h.failures,
		Next: h.now().Add(o.breaker.RemainingDelay()),
	}, h.reason, true
}

// tellHealth tells the tools and the metrics which sinks are down and why.
func (p *Processor) tellHealth(ctx context.Context) {
	replica := p.affinity.members.ID()
	for _, out := range p.outputs {
		t, reason, down := out.trouble(replica)
		p.count.failing.DeletePartialMatch(map[string]string{"sink": out.Name()})
		var err error
		switch {
		case down:
			p.count.failing.WithLabelValues(out.Name(), reason).Set(1)
			err = p.state.NoteSinkTrouble(ctx, out.Name(), t)
			out.told = true
		case out.told:
			if err = p.state.EndSinkTrouble(ctx, out.Name(), replica); err == nil {
				out.told = false
			}
		}
		if err != nil && ctx.Err() == nil {
			p.log.Debug("health of a sink not recorded", telemetry.Sink(out.Name()), telemetry.Error(err))
		}
	}
}

// sanitizer is a sink that replaces characters which it cannot hold, and counts the documents.
type sanitizer interface{ Sanitized() int64 }

// tellSanitized adds to what the tools show. What Redis does not take is added later.
func (p *Processor) tellSanitized(ctx context.Context) {
	for _, out := range p.outputs {
		s, ok := ability[sanitizer](out.Sink)
		if !ok {
			continue
		}
		n := s.Sanitized()
		if n == out.counted {
			continue
		}
		if err := p.state.AddSanitized(ctx, out.Name(), n-out.counted); err != nil {
			p.log.Debug("sanitized documents not counted", telemetry.Sink(out.Name()), telemetry.Error(err))
			continue
		}
		out.counted = n
	}
}

// Health is what /readyz shows of the sinks: one that is down or was away at the start, and
// why.
func (p *Processor) Health() map[string]string {
	details := map[string]string{}
	for _, out := range p.outputs {
		if w, ok := ability[interface{ Waiting() error }](out.Sink); ok {
			if err := w.Waiting(); err != nil {
				details["sink "+out.Name()] = "not reached since the start: " + err.Error()
			}
		}
		if t, _, down := out.trouble(""); down {
			details["sink "+out.Name()] = fmt.Sprintf("down since %s, %d failures, next try in %s: %s",
				t.Since.UTC().Format(time.RFC3339), t.Failures, out.breaker.RemainingDelay().Round(time.Millisecond), t.Error)
		}
	}
	return details
}

// firstOf is the first error of a write that was taken in part.
func firstOf(err error) error {
	if partial, ok := errors.AsType[*sink.PartialError](err); ok {
		for _, err := range partial.Errs {
			if err != nil {
				return err
			}
		}
	}
	return err
}
