package reconciler

import (
	"context"
	"errors"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// uncounted reports whether COUNT of an entity is left out for now: the API refuses it, and
// serves the records.
func (s *scan) uncounted(name string) bool {
	r := s.refusal(name).count
	return known(r) && s.r.now().Sub(r.At) < retryRefused
}

// countRefused reports whether err may refuse COUNT alone. Whether it does is known once the
// same entity has been read.
func countRefused(ctx context.Context, err error) bool {
	return causeOf(ctx, err) != causeNone && !momentary(err)
}

// keepUncounted notes that COUNT of an entity is refused and its records are served. If that
// fails it is asked for, and refused, again.
func (s *scan) keepUncounted(ctx context.Context, name string, cause error) {
	s.mu.Lock()
	of, now := s.refused[name], s.r.now()
	r := state.Refusal{Entity: name, Way: wayCount, At: now, First: now, Tries: 1, Text: refusalText(cause)}
	if known(of.count) {
		r.First, r.Tries = of.count.First, of.count.Tries+1
	}
	of.count = r
	s.refused[name] = of
	s.mu.Unlock()
	s.log.Info("count refused by quickbooks; deletions are found by full reads", append(refusalFields(r), telemetry.Error(cause))...)
	if err := s.r.state.Refused(ctx, s.realm, r); err != nil {
		s.log.Warn("refusal not saved", append(refusalFields(r), telemetry.Error(err))...)
	}
}

// hasAny returns whether there are records of an entity, for one that is not counted: 1 or 0.
func (s *scan) hasAny(ctx context.Context, f *finding) (int, time.Time, error) {
	res, err := s.callQuery(ctx, statement{entity: f.entity, list: f.list, plain: true, rows: 1}.String())
	if err != nil {
		return 0, time.Time{}, err
	}
	return min(len(res.Entities)+len(res.NoID), 1), res.Time, nil
}

// countOrAny counts the records of an entity; where COUNT is refused it says only whether
// there are any.
func (s *scan) countOrAny(ctx context.Context, f *finding) (int, time.Time, error) {
	if s.uncounted(f.entity) {
		return s.hasAny(ctx, f)
	}
	n, at, err := s.count(ctx, statement{entity: f.entity, list: f.list})
	if err == nil {
		s.accepts(ctx, f, wayCount)
	}
	if !countRefused(ctx, err) {
		return n, at, err
	}
	n, at, anyErr := s.hasAny(ctx, f)
	if anyErr == nil {
		s.keepUncounted(ctx, f.entity, err)
	}
	return n, at, anyErr
}

// namesInactive is unfiltered for an entity that is not counted: where the condition on
// Active is served, the records are read with it.
func (s *scan) namesInactive(ctx context.Context, f *finding) (bool, error) {
	_, err := s.callQuery(ctx, statement{entity: f.entity, list: true, plain: true, rows: 1}.String())
	if errors.Is(err, qbo.ErrInvalidQuery) {
		return !f.list, nil
	}
	f.list = f.list || err == nil
	return err == nil, err
}
