package reconciler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

const (
	// retryRefused is how long an entity that a realm's API has refused is not asked for:
	// it may come with another edition of QuickBooks, or another version of the API.
	retryRefused = 7 * 24 * time.Hour
	// A refusal that does not say that the company is without the entity is concluded once
	// so many scans in a row were refused over such a time, while other entities answered.
	lastingTries = 3
	lastingAfter = time.Hour
	// doubtsAtOnce is how many entities in a row may be refused before a scan checks
	// whether any other answers.
	doubtsAtOnce = 3
	// maxRefusalText bounds what is kept of Intuit's text.
	maxRefusalText = 400
)

const (
	wayCDC    = state.RefusedByCDC
	wayQuery  = state.RefusedByQuery
	wayFilter = state.RefusedByFilter
	wayCount  = state.RefusedByCount
)

// refusal is how an entity was last refused, by the way of asking; zero: it was not.
type refusal struct{ cdc, query, filter, count state.Refusal }

func (r *refusal) by(way string) *state.Refusal {
	switch way {
	case wayCDC:
		return &r.cdc
	case wayFilter:
		return &r.filter
	case wayCount:
		return &r.count
	}
	return &r.query
}

// known reports whether there is a refusal.
func known(r state.Refusal) bool { return !r.At.IsZero() }

// rests reports whether that way of asking is left out for now.
func rests(r state.Refusal, now time.Time) bool {
	return r.Lasting && now.Sub(r.At) < retryRefused
}

// unknown reports whether there is no way to ask Query for an entity now.
func (s *scan) unknown(name string, now time.Time) bool {
	return !s.explicit[name] && rests(s.refusal(name).query, now)
}

func (s *scan) refusal(name string) refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused[name]
}

// cause is what a failed call says about the entities it asked for.
type cause uint8

const (
	// causeNone: nothing. No response came, or it concerns the app, one record or the
	// size of the request.
	causeNone cause = iota
	// causeUnsure: this entity is refused, or all are, or only for a moment.
	causeUnsure
	// causeLasting: the company is without the entity.
	causeLasting
)

func causeOf(ctx context.Context, err error) cause {
	var fault *qbo.Fault
	switch {
	case err == nil || blocked(ctx, err) || !errors.As(err, &fault) && !errors.Is(err, qbo.ErrMalformed):
		return causeNone
	case errors.Is(err, errUnreadable) || errors.Is(err, errBehind) || ofContent(err):
		return causeNone
	}
	switch qbo.MeaningOf(err) {
	case qbo.MeaningEntityUnavailable:
		return causeLasting
	case qbo.MeaningThrottled, qbo.MeaningNotFound, qbo.MeaningPoison:
		return causeNone
	case qbo.MeaningRequest:
		if errors.Is(err, qbo.ErrInvalidQuery) {
			return causeLasting // our statements have one form for all entities
		}
	}
	return causeUnsure
}

// blocked reports whether err stands in the way of every entity, whatever is asked for.
func blocked(ctx context.Context, err error) bool {
	_, held := connection.RetryAfter(err)
	return ctx.Err() != nil || errors.Is(err, errParked) || lapsed(err) || held ||
		errors.Is(err, qbo.ErrThrottled) || errors.Is(err, state.ErrBudget)
}

// ofContent reports whether a smaller request may succeed, since the response was about
// the records or the size of this one.
func ofContent(err error) bool {
	return errors.Is(err, qbo.ErrPoison) || errors.Is(err, qbo.ErrTooOld) || tooLarge(err)
}

// filterRefused reports whether an entity exists but cannot be filtered by a property.
func filterRefused(err error) bool { return qbo.MeaningOf(err) == qbo.MeaningFilterUnsupported }

// readRefused reads what the realm has refused.
func (r *Reconciler) readRefused(ctx context.Context, realm string) (map[string]refusal, error) {
	all, err := r.state.Refusals(ctx, realm)
	if err != nil {
		return nil, err
	}
	by := map[string]refusal{}
	for _, one := range all {
		of := by[one.Entity]
		*of.by(one.Way) = one
		by[one.Entity] = of
	}
	return by, nil
}

// doubt is a refusal of one entity that may be one of all: it counts once another entity
// has answered after it.
type doubt struct {
	entity, way string
	err         error
	answers     int // of the scan, before it
}

// refuses handles a response that refuses an entity. The error is one that concerns all
// entities.
func (s *scan) refuses(ctx context.Context, f *finding, way string, err error) error {
	d := doubt{entity: f.entity, way: way, err: err, answers: f.asked - 1}
	if f.asked == 0 {
		d.answers = s.answered()
	}
	return s.refusesEntity(ctx, d)
}

func (s *scan) refusesEntity(ctx context.Context, d doubt) error {
	if causeOf(ctx, d.err) == causeLasting {
		s.keepRefusal(ctx, d, true)
		return nil
	}
	s.mu.Lock()
	s.doubts = append(s.doubts, d)
	open := len(s.openLocked())
	s.mu.Unlock()
	if open < doubtsAtOnce {
		return nil
	}
	return s.settleDoubts(ctx)
}

// answered is how many calls of the scan have succeeded.
func (s *scan) answered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answers
}

// openLocked are the doubts of entities after whose refusal none has answered.
func (s *scan) openLocked() (open []doubt) {
	sure := map[string]bool{}
	for _, d := range s.doubts {
		sure[d.entity] = sure[d.entity] || d.answers < s.answers
	}
	for _, d := range s.doubts {
		if !sure[d.entity] {
			open = append(open, d)
		}
	}
	return open
}

// settleDoubts keeps the refusals that are those of single entities. Where no entity has
// answered since, one that every company has is asked for: if it is refused too, the
// refusal is the company's.
func (s *scan) settleDoubts(ctx context.Context) error {
	s.mu.Lock()
	open := s.openLocked()
	s.mu.Unlock()
	if len(open) > 0 && !s.again {
		if err := s.probe(ctx); err != nil {
			if blocked(ctx, err) {
				return err
			}
			return fmt.Errorf("%s of %s, and no other entity answers: %w", open[0].way, open[0].entity, open[0].err)
		}
	}
	s.mu.Lock()
	doubts := s.doubts
	s.doubts = nil
	s.mu.Unlock()
	for _, d := range doubts {
		s.keepRefusal(ctx, d, false)
	}
	return nil
}

// probe asks for an entity that every company has.
func (s *scan) probe(ctx context.Context) error {
	name := "CompanyInfo"
	s.mu.Lock()
	if known(s.refused[name].query) || slices.ContainsFunc(s.doubts, func(d doubt) bool { return d.entity == name }) {
		name = "Customer"
	}
	s.mu.Unlock()
	_, err := s.callQuery(ctx, "SELECT * FROM "+name+" MAXRESULTS 1")
	if err == nil {
		s.mu.Lock()
		s.extra++
		s.mu.Unlock()
	}
	return err
}

// keepRefusal notes that the API refuses an entity here. If that fails it is asked, and
// refused, again.
func (s *scan) keepRefusal(ctx context.Context, d doubt, lasting bool) {
	s.mu.Lock()
	of := s.refused[d.entity]
	before, now := *of.by(d.way), s.r.now()
	r := state.Refusal{Entity: d.entity, Way: d.way, At: now, First: now, Tries: 1, Text: refusalText(d.err)}
	if known(before) {
		r.First, r.Tries = before.First, before.Tries+1
	}
	// A retry asks for nothing else, so that it proves nothing.
	r.Lasting = lasting || before.Lasting || !s.again && r.Tries >= lastingTries && now.Sub(r.First) >= lastingAfter
	if !r.Lasting {
		r.Next = now.Add(s.r.backOff(r.Tries))
	}
	*of.by(d.way) = r
	s.refused[d.entity] = of
	s.mu.Unlock()
	s.r.metrics.refused.WithLabelValues(d.entity).Inc()
	fields := append(refusalFields(r), telemetry.Error(d.err))
	switch {
	case r.Lasting && !before.Lasting && d.way == wayFilter:
		s.log.Info("filter refused; reading the whole entity", fields...)
	case r.Lasting && !before.Lasting:
		s.log.Warn("entity refused by quickbooks; skipped for a week", fields...)
	case !known(before):
		s.log.Warn("entity refused by quickbooks; its cursor is kept, will retry", fields...)
	default:
		s.log.Debug("entity still refused by quickbooks", fields...)
	}
	if err := s.r.state.Refused(ctx, s.realm, r); err != nil {
		s.log.Warn("refusal not saved", append(refusalFields(r), telemetry.Error(err))...)
	}
}

// accepts removes a refusal: the API serves the entity by now.
func (s *scan) accepts(ctx context.Context, f *finding, way string) {
	s.mu.Lock()
	of := s.refused[f.entity]
	before := *of.by(way)
	s.mu.Unlock()
	if !known(before) {
		return
	}
	if err := s.r.state.Accepted(ctx, s.realm, before); err != nil {
		s.log.Warn("refusal not removed", append(refusalFields(before), telemetry.Error(err))...)
		return
	}
	s.mu.Lock()
	*of.by(way) = state.Refusal{}
	s.refused[f.entity] = of
	s.mu.Unlock()
	s.log.Info("entity served by quickbooks again", refusalFields(before)...)
}

func refusalFields(r state.Refusal) []zap.Field {
	return []zap.Field{telemetry.Entity(r.Entity), telemetry.Source(r.Way), telemetry.Attempt(r.Tries)}
}

// refusalText is Intuit's text of a refusal.
func refusalText(err error) string {
	text := err.Error()
	var fault *qbo.Fault
	if errors.As(err, &fault) {
		text = fault.Error()
	}
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxRefusalText {
		text = strings.ToValidUTF8(text[:maxRefusalText], "") + "…"
	}
	return text
}

// refusedNow are the entities that cannot be read, and when the first is to be asked
// again by itself; zero: with the next scan.
func refusedNow(refused map[string]refusal) (all []state.Refusal, next time.Time) {
	for _, of := range refused {
		r := of.query
		if !known(r) {
			continue
		}
		all = append(all, r)
		if !r.Lasting && (next.IsZero() || r.Next.Before(next)) {
			next = r.Next
		}
	}
	slices.SortFunc(all, func(a, b state.Refusal) int { return strings.Compare(a.Entity, b.Entity) })
	return all, next
}

// refusalNote says in words what a scan left out.
func refusalNote(refused []state.Refusal) string {
	if len(refused) == 0 {
		return ""
	}
	var parts []string
	for _, r := range refused {
		parts = append(parts, r.Entity+" ("+r.Text+")")
	}
	return "left out, refused by QuickBooks: " + strings.Join(parts, ", ")
}
