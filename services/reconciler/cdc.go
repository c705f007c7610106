package reconciler

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// cdc asks for the changes of all the findings in one call and returns those
// that Query must be asked for. A response that is cut off, lacks an entity, or
// fails on a record is asked for again in halves, down to the one entity that is
// the cause: which rows survive a cut is unknown, so nothing of it counts as
// complete. Where entities are refused they are searched for.
func (s *scan) cdc(ctx context.Context, fs []*finding) ([]*finding, error) {
	if len(fs) == 0 {
		return nil, nil
	}
	rest, refused, err := s.attempt(ctx, fs)
	switch {
	case err != nil || refused == nil:
		return rest, err
	case len(fs) == 1:
		return s.refusedAlone(ctx, fs[0], refused)
	case ofContent(refused):
		s.r.metrics.splits.Inc()
		half := len(fs) / 2
		return s.both(ctx, fs[:half], fs[half:])
	case !s.isolate && momentary(refused):
		return nil, fmt.Errorf("cdc of %d entities: %w", len(fs), refused)
	}
	s.r.metrics.splits.Inc()
	return s.search(ctx, fs, refused)
}

// momentary reports whether a refusal of several entities is most likely over soon, so
// that the next scan finds it gone.
func momentary(err error) bool {
	switch qbo.MeaningOf(err) {
	case qbo.MeaningTransient, qbo.MeaningMalformed:
		return true
	}
	return false
}

// attempt makes one call. A refusal is a response that fewer entities may not get.
func (s *scan) attempt(ctx context.Context, fs []*finding) (rest []*finding, refused, err error) {
	names := make([]string, len(fs))
	since := fs[0].changedSince
	for i, f := range fs {
		names[i] = f.entity
		if f.changedSince.Before(since) {
			since = f.changedSince
		}
	}
	res, err := s.callCDC(ctx, names, since)
	switch {
	case err != nil && (causeOf(ctx, err) != causeNone || ofContent(err) && !blocked(ctx, err)):
		return nil, err, nil
	case err != nil:
		return nil, nil, fmt.Errorf("cdc of %d entities: %w", len(fs), err)
	case !res.Truncated() && res.Complete(names) || sabotage.On(sabotage.TruncatedAccepted):
		rest, err = s.take(ctx, fs, res)
	case len(fs) == 1:
		rest, err = s.alone(ctx, fs[0], res)
	default:
		s.r.metrics.splits.Inc()
		if i, n := heaviest(fs, res); n > res.Total/2 {
			rest, err = s.apart(ctx, fs, i, res)
			break
		}
		half := len(fs) / 2
		rest, err = s.both(ctx, fs[:half], fs[half:])
	}
	return rest, nil, err
}

func (s *scan) both(ctx context.Context, a, b []*finding) ([]*finding, error) {
	first, err := s.cdc(ctx, a)
	if err != nil {
		return nil, err
	}
	second, err := s.cdc(ctx, b)
	return append(first, second...), err
}

// heaviest is the finding with the most objects in an answer.
func heaviest(fs []*finding, res qbo.CDCResult) (at, n int) {
	for i, f := range fs {
		if m := len(res.Entities[f.entity]); m > n {
			at, n = i, m
		}
	}
	return at, n
}

// apart separates the one entity that fills most of an answer that was cut off:
// the others probably fit into the next. If it fills all of one, there is no
// need to ask for it alone.
func (s *scan) apart(ctx context.Context, fs []*finding, heavy int, res qbo.CDCResult) ([]*finding, error) {
	others := append(slices.Clone(fs[:heavy]), fs[heavy+1:]...)
	if len(res.Entities[fs[heavy].entity]) < qbo.MaxObjects {
		return s.both(ctx, others, fs[heavy:heavy+1])
	}
	alone, err := s.alone(ctx, fs[heavy], res)
	if err != nil {
		return nil, err
	}
	rest, err := s.cdc(ctx, others)
	return append(alone, rest...), err
}

// take compares a whole answer. The findings that need no Query are concluded.
func (s *scan) take(ctx context.Context, fs []*finding, res qbo.CDCResult) (rest []*finding, err error) {
	var events, loaded []*ledgerfeedv1.Event
	var whole []*finding
	if err := s.probeFields(ctx, fs, res); err != nil {
		return nil, err
	}
	for _, f := range fs {
		f.told = true
		missing, err := s.compareCDC(ctx, f, res)
		if err != nil {
			return nil, err
		}
		if f.source() == ledgerfeedv1.Source_SOURCE_CDC {
			events = append(events, missing...)
		} else {
			loaded = append(loaded, missing...)
		}
		f.query = f.query || unkeyed(res, f.entity) // Query says how many there are
		if f.query {
			rest = append(rest, f)
		} else {
			whole = append(whole, f)
		}
		s.accepts(ctx, f, wayCDC)
		if !f.query {
			s.accepts(ctx, f, wayQuery) // should Query be needed, it is asked
		}
	}
	sabotage.At(sabotage.Scanned)
	if err := s.publish(ctx, ledgerfeedv1.Source_SOURCE_QUERY, loaded); err != nil {
		return nil, err
	}
	if err := s.conclude(ctx, ledgerfeedv1.Source_SOURCE_CDC, whole, events); err != nil {
		return nil, err
	}
	s.ended(whole...)
	return rest, nil
}

// source says how what CDC answered was learned. Deletions that a load
// takes from it belong to the load: what counts as found by CDC is what a
// webhook should have told.
func (f *finding) source() ledgerfeedv1.Source {
	if f.load {
		return ledgerfeedv1.Source_SOURCE_QUERY
	}
	return ledgerfeedv1.Source_SOURCE_CDC
}

// wanted is what of an answer is compared. A load takes only deletions from CDC: what is there comes by Query, and is not what a webhook has missed.
func (f *finding) wanted(res qbo.CDCResult) []qbo.Entity {
	items := res.Entities[f.entity]
	if f.load {
		items = slices.DeleteFunc(slices.Clone(items), func(e qbo.Entity) bool { return !e.Deleted })
	}
	return items
}

// alone handles the one entity that CDC does not answer as a whole: what the
// answer does hold is true and is used, the rest is left to Query.
func (s *scan) alone(ctx context.Context, f *finding, res qbo.CDCResult) ([]*finding, error) {
	f.query = true
	s.r.metrics.truncated.WithLabelValues(f.entity).Inc()
	events, err := s.compareCDC(ctx, f, res)
	if err != nil {
		return nil, err
	}
	return []*finding{f}, s.publish(ctx, f.source(), events)
}

// refusedAlone leaves the one entity that CDC refuses to Query.
func (s *scan) refusedAlone(ctx context.Context, f *finding, refused error) ([]*finding, error) {
	f.query = true
	if ofContent(refused) {
		s.log.Warn("cdc fails on entity; scanning it by query", telemetry.Entity(f.entity), telemetry.Error(refused))
		return []*finding{f}, nil
	}
	s.mu.Lock()
	if f.asked == 0 {
		f.asked = s.answers + 1
	}
	s.extra++ // for the Query
	s.mu.Unlock()
	return []*finding{f}, s.refuses(ctx, f, wayCDC, refused)
}

func (s *scan) callCDC(ctx context.Context, names []string, since time.Time) (qbo.CDCResult, error) {
	res, err := s.client.CDC(ctx, s.realm, names, since)
	s.called("cdc", err)
	s.heard(res.Time)
	return res, err
}

// unkeyed reports whether an answer holds rows of an entity that have no key.
func unkeyed(res qbo.CDCResult, name string) bool {
	return slices.ContainsFunc(res.NoID, func(e qbo.Entity) bool { return e.Name == name })
}
