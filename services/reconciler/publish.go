package reconciler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// publish puts events on the stream, notes them as gaps, and returns when the
// broker has acknowledged all of them.
func (s *scan) publish(ctx context.Context, source ledgerfeedv1.Source, events []*ledgerfeedv1.Event) error {
	if len(events) == 0 {
		return nil
	}
	s.batches++
	seed := fmt.Sprintf("%s/%d", s.id, s.batches)
	envs := envelope.New(source, s.realm, seed, events, envelope.Meta{ReceivedAt: s.r.now()})
	if err := s.deliver(ctx, envs); err != nil {
		return fmt.Errorf("publish %d changes: %w", len(events), err)
	}
	name := "query"
	if source == ledgerfeedv1.Source_SOURCE_CDC {
		name = "cdc"
		s.missingCDC += len(events)
	} else {
		s.missingQuery += len(events)
	}
	s.r.metrics.missing.WithLabelValues(name).Add(float64(len(events)))
	s.note(ctx, name, events)
	return nil
}

// publishTries bounds how long a scan waits for a broker that is full or away,
// some 15 seconds; then the scan is given up and made again later.
const publishTries = 5

// deliver publishes until every envelope is acknowledged. Repeating is safe:
// an envelope has the same id each time.
func (s *scan) deliver(ctx context.Context, envs []*ledgerfeedv1.Envelope) error {
	for try := 1; ; try++ {
		err := s.r.stream.Publish(ctx, envs...)
		if err == nil || !errors.Is(err, stream.ErrNotDurable) || try == publishTries {
			return err
		}
		if err := pause(ctx, stream.Backoff(try)); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// conclude ends the reading of findings that are whole. Those that lack nothing
// move their cursors at once. The others are remembered first, then the events
// are published: a crash in between leaves a scan that is never verified, which
// costs a repetition and no change.
func (s *scan) conclude(ctx context.Context, source ledgerfeedv1.Source, whole []*finding, events []*ledgerfeedv1.Event) error {
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
		s.saved++
		var err error
		p, err = s.r.verifier.remember(ctx, s.realm, state.Scan{
			ID:        fmt.Sprintf("%d-%s", s.saved, s.id),
			StartedAt: s.r.now(),
			Time:      at,
			Cursors:   due,
			Missing:   missing,
		}, s.cursors)
		if err != nil {
			return err
		}
		s.pending = append(s.pending, p)
	}
	if err := s.publish(ctx, source, events); err != nil {
		return err
	}
	if p != nil {
		p.setPublished(published)
	}
	return s.r.verifier.move(ctx, s.realm, s.id, s.cursors, clean)
}

// note counts published changes as gaps and keeps them in the realm's ledger.
// An initial load has no gaps: nobody promised a webhook for what was there. A
// ledger that cannot be written does not hold up the repair.
func (s *scan) note(ctx context.Context, source string, events []*ledgerfeedv1.Event) {
	var gaps []state.Gap
	verdicts := map[string]int{}
	for _, e := range events {
		if s.cursors[e.GetEntity()].IsZero() {
			continue
		}
		verdict := s.verdict(ctx, e)
		verdicts[verdict]++
		gaps = append(gaps, state.Gap{
			At:      s.r.now(),
			Ref:     state.Ref{Entity: e.GetEntity(), ID: e.GetEntityId()},
			Version: e.GetVersion(),
			Source:  source,
			Verdict: verdict,
			Event:   when(e),
		})
	}
	for _, verdict := range slices.Sorted(maps.Keys(verdicts)) {
		s.r.metrics.gaps.WithLabelValues(verdict).Add(float64(verdicts[verdict]))
		s.log.Info("changes found that no webhook brought", telemetry.Source(source),
			telemetry.Reason(verdict), telemetry.Count(verdicts[verdict]))
	}
	if err := s.r.state.AppendGaps(ctx, s.realm, gaps); err != nil {
		s.log.Warn("gaps not noted", telemetry.Count(len(gaps)), telemetry.Error(err))
	}
}
