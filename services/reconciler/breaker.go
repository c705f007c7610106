package reconciler

import (
	"context"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

const (
	// A scan that would delete more than massCount records of an entity, and more than
	// one in massPart, by their absence alone, deletes none.
	massCount = 20
	massPart  = 10
	// massAgain is how long after the first a second scan with the same result needs no
	// person, by Intuit's clock.
	massAgain = 6 * time.Hour
	// sampled is how many ids an operator is shown.
	sampled = 10
)

// mass reports whether n deletions of so many records are too many to be believed.
func mass(n, of int) bool {
	return n > massCount && n*massPart > of && !sabotage.On(sabotage.BreakerOff)
}

// allowed returns which of the absent records may be deleted now: all, none, or those
// that were held and approved, by a person or by time.
func (s *scan) allowed(ctx context.Context, f *finding, held *state.HeldDeletion, due []state.Absence, now time.Time) ([]state.Absence, error) {
	if held.State == state.DeletionHeld || held.State == state.DeletionApproved {
		// What was missed since is another matter.
		mine := slices.DeleteFunc(slices.Clone(due), func(a state.Absence) bool { return a.First.After(held.At) })
		wait := stretched(massAgain, held.Rejections) - now.Sub(held.Since)
		switch {
		case len(mine) == 0: // all of it is settled
			if err := s.r.state.EndHeldDeletion(ctx, *held); err != nil {
				return nil, err
			}
			*held = state.HeldDeletion{Realm: s.realm, Entity: f.entity}
		case held.State == state.DeletionApproved:
			return mine, nil
		case wait > 0:
			s.tellHeld(*held)
			return nil, s.comeBack(ctx, wait)
		case len(mine) != held.Count: // not the same result
			return nil, s.hold(ctx, f, *held, due, now)
		default:
			return mine, nil
		}
	}
	if len(due) <= massCount {
		return due, nil
	}
	of, err := s.alive(ctx, f)
	if err != nil {
		return nil, err
	}
	if !mass(len(due), of) {
		return due, nil
	}
	held.Of = of
	return nil, s.hold(ctx, f, *held, due, now)
}

// hold keeps deletions back until somebody decides, or a second scan finds the same.
func (s *scan) hold(ctx context.Context, f *finding, held state.HeldDeletion, due []state.Absence, now time.Time) error {
	held.State, held.Since, held.At, held.By, held.Decided = state.DeletionHeld, now, now, "", time.Time{}
	held.Count, held.Sample = len(due), idsOf(due[:min(len(due), sampled)])
	if err := s.r.state.HoldDeletion(ctx, held); err != nil {
		return err
	}
	s.tellHeld(held)
	return s.comeBack(ctx, stretched(massAgain, held.Rejections))
}

func (s *scan) tellHeld(held state.HeldDeletion) {
	s.log.Error("deletions held: too many records absent without a deletion from cdc; see ledgerfeed deletions ls",
		telemetry.Entity(held.Entity), telemetry.Count(held.Count), telemetry.At(held.Since))
}

// alive is how many records of an entity the sink has that has most.
func (s *scan) alive(ctx context.Context, f *finding) (most int, err error) {
	if f.held != nil {
		return f.held.Len(), nil
	}
	for _, sink := range s.sinks {
		n := 0
		err := s.r.state.EachMark(ctx, s.realm, sink, f.entity, func(records []state.Record) error {
			for _, r := range records {
				if !qbo.IsTombstone(r.Version) {
					n++
				}
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		most = max(most, n)
	}
	return most, nil
}

// countHeld keeps the metric of deletions that wait for somebody.
func (r *Reconciler) countHeld(ctx context.Context) error {
	all, err := r.state.HeldDeletions(ctx)
	if err != nil {
		return err
	}
	n := 0
	for _, h := range all {
		if h.State == state.DeletionHeld {
			n += h.Count
		}
	}
	r.metrics.held.Set(float64(n))
	return nil
}

// heldEvery is how often that is done.
const heldEvery = 15 * time.Second
