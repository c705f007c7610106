package reconciler

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/retry"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// publish notes events as gaps, puts them on the stream, and returns when the
// broker has acknowledged all of them.
func (s *scan) publish(ctx context.Context, source ledgerfeedv1.Source, events []*ledgerfeedv1.Event) error {
	if len(events) == 0 {
		return nil
	}
	s.mu.Lock()
	s.batches++
	seed := fmt.Sprintf("%s/%d", s.id, s.batches)
	s.mu.Unlock()
	envs := envelope.New(source, s.realm, seed, events, envelope.Meta{ReceivedAt: s.r.now()})
	name := "query"
	switch source {
	case ledgerfeedv1.Source_SOURCE_CDC:
		name = "cdc"
	case ledgerfeedv1.Source_SOURCE_RESTORED:
		name = sourceRestored
	}
	s.note(ctx, name, events)
	deliver := s.deliver
	if s.r.tracer != nil {
		deliver = func(ctx context.Context, envs []*ledgerfeedv1.Envelope) error {
			return stream.PublishTraced(ctx, s.r.tracer, envs, s.deliver)
		}
	}
	if err := deliver(ctx, envs); err != nil {
		return fmt.Errorf("publish %d changes: %w", len(events), err)
	}
	sabotage.At(sabotage.ScanPublished)
	if source == ledgerfeedv1.Source_SOURCE_RESTORED {
		sabotage.At(sabotage.Restored)
	}
	s.mu.Lock()
	if source == ledgerfeedv1.Source_SOURCE_CDC {
		s.missingCDC += len(events)
	} else {
		s.missingQuery += len(events)
	}
	s.mu.Unlock()
	s.r.metrics.missing.WithLabelValues(name).Add(float64(len(events)))
	return nil
}

// publishTries bounds how long a scan waits for a broker that is full or away,
// some 15 seconds; then the scan is given up and made again later.
const publishTries = 5

// deliver publishes until every envelope is acknowledged. Repeating is safe:
// an envelope has the same id each time.
func (s *scan) deliver(ctx context.Context, envs []*ledgerfeedv1.Envelope) error {
	return s.repeat(ctx, func() error { return s.r.stream.PublishLater(ctx, envs...) })
}

func (s *scan) repeat(ctx context.Context, publish func() error) error {
	return retry.Calls(publishTries, retry.If(stream.ErrNotDurable)).Do(ctx, publish)
}

// conclude ends the reading of findings that are whole. Those that lack nothing
// move their cursors at once. The others are remembered first, then the events
// are published: a crash in between leaves a scan that is never verified, which
// costs a repetition and no change.
func (s *scan) conclude(ctx context.Context, source ledgerfeedv1.Source, whole []*finding, events []*ledgerfeedv1.Event) error {
	memory, err := s.r.state.Memory(ctx)
	if err != nil {
		return err
	}
	if memory != s.memory {
		return fmt.Errorf("during the scan: %w", errForgotten)
	}
	clean, due := map[string]time.Time{}, map[string]time.Time{}
	var missing []state.Missing
	published := map[state.Ref]bool{}
	at := time.Time{}
	for _, f := range whole {
		if len(f.missing) == 0 {
			clean[f.entity] = f.target()
			continue
		}
		due[f.entity] = f.target()
		missing = append(missing, f.missing...)
		maps.Copy(published, f.published)
		if at.IsZero() || f.time.Before(at) {
			at = f.time
		}
	}
	var p *pending
	if len(due) > 0 {
		s.mu.Lock()
		s.saved++
		id := fmt.Sprintf("%d-%s", s.saved, s.id)
		s.mu.Unlock()
		p, err = s.r.verifier.remember(ctx, s.realm, state.Scan{
			ID:        id,
			StartedAt: s.r.now(),
			Time:      at,
			Cursors:   due,
			Missing:   missing,

			From: s.cursors, Generation: s.generation,
		})
		if err != nil {
			return err
		}
		sabotage.At(sabotage.ScanSaved)
		s.mu.Lock()
		s.pending = append(s.pending, p)
		s.mu.Unlock()
	}
	if err := s.publish(ctx, source, events); err != nil {
		return err
	}
	if p != nil {
		p.setPublished(published)
	}
	if sabotage.On(sabotage.CursorAtPublish) {
		maps.Copy(clean, due)
	}
	sabotage.At(sabotage.ScanConcluded)
	_, err = s.r.verifier.move(ctx, s.realm, s.id, state.Move{Generation: s.generation, From: s.cursors, To: clean})
	return err
}
