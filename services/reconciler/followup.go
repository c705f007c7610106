package reconciler

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

const (
	// lagBound is how late Intuit's replicas may answer, by its clock. No source says;
	// an answer given that long after an event counts as one that includes it.
	lagBound = 10 * time.Minute
	// followUpDelay is when the next scan looks again at what this one left open; it
	// doubles with each try.
	followUpDelay    = 2 * time.Minute
	maxFollowUpDelay = 15 * time.Minute
	// missingLooks is how many scans must not find a record before its event becomes
	// a dead letter.
	missingLooks = 2
)

// readFollowUps reads what this scan must look at by id.
func (s *scan) readFollowUps(ctx context.Context) error {
	all, err := s.r.state.FollowUps(ctx, s.realm)
	if err != nil {
		return err
	}
	s.follow = make(map[state.Ref]state.FollowUp, len(all))
	for _, f := range all {
		s.follow[f.Ref] = f
	}
	return nil
}

// followUps looks by id at the records that one answer was not enough to conclude
// from: tombstones that ChangeDataCapture has not confirmed, and reads that were
// older than their event. It costs one Query for each entity type among them that
// this scan has not answered for already.
//
// One that needs a change is kept until a later scan finds it delivered, so that a
// message lost on the way is published again.
func (s *scan) followUps(ctx context.Context, o order) error {
	if s.followMore.Load() {
		if err := s.readFollowUps(ctx); err != nil {
			return err
		}
	}
	byEntity := map[string][]state.FollowUp{}
	for _, f := range s.follow {
		if o.wants(f.Entity) && !s.unknown(f.Entity, s.r.now()) {
			byEntity[f.Entity] = append(byEntity[f.Entity], f)
		}
	}
	var ended, open []state.FollowUp
	soonest := time.Duration(-1)
	for name, all := range byEntity {
		look := &look{scan: s, name: name}
		look.list = listed(name)
		for part := range slices.Chunk(all, maxIDs) {
			if err := look.at(ctx, part); err != nil {
				if blocked(ctx, err) {
					return err
				}
				if causeOf(ctx, err) != causeNone {
					d := doubt{entity: name, way: wayQuery, err: err, answers: s.answered()}
					if err := s.refusesEntity(ctx, d); err != nil {
						return err
					}
				}
				// Else a read that was too old would wait for the next day.
				if qbo.Temporary(err) && (soonest < 0 || maxFollowUpDelay < soonest) {
					soonest = maxFollowUpDelay
				}
				s.log.Warn("follow-ups not checked, will retry", telemetry.Entity(name), telemetry.Count(len(part)), telemetry.Error(err))
			}
		}
		ended, open = append(ended, look.ended...), append(open, look.open...)
		for _, f := range look.soon {
			if in := min(followUpDelay<<min(f.Tries, 8), maxFollowUpDelay); soonest < 0 || in < soonest {
				soonest = in
			}
		}
	}
	if err := s.r.state.EndFollowUps(ctx, s.realm, ended); err != nil {
		return err
	}
	if err := s.r.state.RetryFollowUps(ctx, s.realm, open); err != nil {
		return err
	}
	s.r.metrics.followUps.Add(float64(len(ended)))
	if soonest < 0 {
		return nil
	}
	return s.r.state.ScheduleIn(ctx, s.realm, soonest)
}

func listed(name string) bool {
	info, _ := entity.Lookup(name)
	return info.List
}

// look is what the follow-ups of one entity type come to.
type look struct {
	*scan
	name string
	list bool

	ended, open, soon []state.FollowUp
}

// at asks for the records and says what becomes of each follow-up.
func (l *look) at(ctx context.Context, all []state.FollowUp) error {
	found := l.finding()
	var ask []state.FollowUp
	for _, f := range all {
		if found != nil && found.told && found.deleted[f.ID] && !l.list {
			l.ended = append(l.ended, f) // CDC has confirmed it
			continue
		}
		ask = append(ask, f)
	}
	if len(ask) == 0 {
		return nil
	}
	ids := make([]string, len(ask))
	for i, f := range ask {
		ids[i] = f.ID
	}
	got := answers{shown: map[string]qbo.Entity{}, failing: map[string]bool{}}
	err := l.query(ctx, ids, &got)
	if filterRefused(err) {
		err = l.queryPlain(ctx, ids, &got)
	}
	switch {
	case causeOf(ctx, err) == causeLasting:
		l.ended = append(l.ended, ask...) // this company has no such entity
		return nil
	case err != nil:
		return fmt.Errorf("query %s: %w", l.name, err)
	}
	ask = slices.DeleteFunc(ask, func(f state.FollowUp) bool { return got.failing[f.ID] })
	refs := make([]state.Ref, len(ask))
	for i, f := range ask {
		refs[i] = f.Ref
	}
	marks := make([][]state.Mark, len(l.sinks))
	for i, sink := range l.sinks {
		var err error
		if marks[i], err = l.r.state.Marks(ctx, l.realm, sink, refs); err != nil {
			return fmt.Errorf("marks of %s: %w", sink, err)
		}
	}
	var restored, changed []*ledgerfeedv1.Event
	for i, f := range ask {
		held := make([]state.Mark, len(marks))
		for s := range marks {
			held[s] = marks[s][i]
		}
		e, ok := got.shown[f.ID]
		switch l.decide(f, e, ok, held, got.at) {
		case lookEnded:
			l.ended = append(l.ended, f)
		case lookLater:
			l.open, l.soon = append(l.open, f), append(l.soon, f)
		case lookNextScan:
			l.open = append(l.open, f)
		case lookChanged:
			changed = append(changed, l.event(e))
			l.open, l.soon = append(l.open, f), append(l.soon, f)
		case lookRestored:
			restored = append(restored, l.event(e))
			l.open, l.soon = append(l.open, f), append(l.soon, f)
		case lookMissing:
			if err := l.missing(ctx, f); err != nil {
				return err
			}
			l.ended = append(l.ended, f)
		}
	}
	if err := l.publish(ctx, ledgerfeedv1.Source_SOURCE_QUERY, changed); err != nil {
		return err
	}
	if len(restored) > 0 {
		l.r.metrics.restored.Add(float64(len(restored)))
		l.log.Warn("tombstones were wrong, records restored", telemetry.Entity(l.name), telemetry.Count(len(restored)))
	}
	return l.publish(ctx, ledgerfeedv1.Source_SOURCE_RESTORED, restored)
}

// answers are what QuickBooks says of some records.
type answers struct {
	shown   map[string]qbo.Entity
	failing map[string]bool // every Query they are in fails
	at      time.Time       // of the first answer
}

// query asks for records by their ids, for fewer where one of them fails the Query.
func (l *look) query(ctx context.Context, ids []string, got *answers) error {
	res, err := l.callQuery(ctx, statement{entity: l.name, list: l.list, ids: ids, rows: maxRows}.String())
	switch {
	case err == nil:
		for _, e := range res.Entities {
			got.shown[e.ID] = e
		}
		if got.at.IsZero() || res.Time.Before(got.at) {
			got.at = res.Time
		}
		return nil
	case !poisoned(ctx, err) && !tooLarge(err):
		return err
	case len(ids) == 1:
		got.failing[ids[0]] = true
		return nil
	}
	if err := l.query(ctx, ids[:len(ids)/2], got); err != nil {
		return err
	}
	return l.query(ctx, ids[len(ids)/2:], got)
}

// queryPlain is query for an entity that cannot be filtered by id: all of it is read.
func (l *look) queryPlain(ctx context.Context, ids []string, got *answers) error {
	return l.readPlain(ctx, l.name, l.list, func(items []qbo.Entity, at time.Time) error {
		for _, e := range items {
			if slices.Contains(ids, e.ID) {
				got.shown[e.ID] = e
			}
		}
		if got.at.IsZero() || at.Before(got.at) {
			got.at = at
		}
		return nil
	})
}

// finding is what this scan has found out about the entity; nil if it did not ask.
func (l *look) finding() *finding {
	for _, f := range l.findings {
		if f.entity == l.name {
			return f
		}
	}
	return nil
}

func (l *look) event(e qbo.Entity) *ledgerfeedv1.Event {
	event := &ledgerfeedv1.Event{
		Id: fmt.Sprintf("%s/%s/%s", l.id, l.name, e.ID), Entity: l.name, EntityId: e.ID,
		Operation: ledgerfeedv1.Operation_OPERATION_UPDATE, Version: e.Version(), ContentHash: qbo.ContentHash(e.Raw),
	}
	if !e.LastUpdated.IsZero() {
		event.OccurredAt = timestamppb.New(e.LastUpdated)
	}
	return event
}

type lookResult int

const (
	lookEnded    lookResult = iota // nothing is open any more
	lookLater                      // read lag may explain it: asked again within minutes
	lookNextScan                   // asked again with the next scan, whenever it is
	lookChanged                    // a sink lacks what is shown
	lookRestored                   // a sink holds a tombstone of it, and it is there
	lookMissing                    // the event becomes a dead letter
)

// decide says what an answer means for a follow-up. A read that may be late decides
// nothing: a record that was deleted a moment ago is still shown, and one that was
// made a moment ago is not shown yet.
func (l *look) decide(f state.FollowUp, e qbo.Entity, shown bool, held []state.Mark, at time.Time) lookResult {
	settled := at.Sub(f.Since) >= lagBound || l.atRest
	gone := slices.ContainsFunc(held, func(m state.Mark) bool { return qbo.IsTombstone(m.Version) })
	allGone := !slices.ContainsFunc(held, func(m state.Mark) bool { return !qbo.IsTombstone(m.Version) })
	lacks := slices.ContainsFunc(held, func(m state.Mark) bool { return qbo.Newer(m.Version, e.Version()) })
	differs := slices.ContainsFunc(held, func(m state.Mark) bool {
		return m.Version == e.Version() && m.Hash != "" && m.Hash != qbo.ContentHash(e.Raw)
	})
	switch {
	case shown && gone && !settled:
		return lookLater
	case shown && (lacks || differs):
		return lookChanged
	case shown && gone:
		return lookRestored
	case shown && (settled || f.Kind == state.FollowUpRead && !e.LastUpdated.Before(f.Since.Truncate(time.Second))):
		return lookEnded
	case shown:
		return lookLater
	case !settled && f.Kind == state.FollowUpRead && !allGone:
		return lookLater
	case !settled:
		return lookNextScan
	case gone || slices.ContainsFunc(held, func(m state.Mark) bool { return m.Version > 0 }):
		// A tombstone is confirmed; that a record is gone which sinks have is for a
		// sweep to find out.
		return lookEnded
	case f.Tries+1 < missingLooks:
		return lookLater
	}
	return lookMissing
}

// missing makes the event of a record that nobody has seen a dead letter.
func (l *look) missing(ctx context.Context, f state.FollowUp) error {
	event := &ledgerfeedv1.Event{
		Id: fmt.Sprintf("%s/%s/%s", l.id, f.Entity, f.ID), Entity: f.Entity, EntityId: f.ID,
		Operation: ledgerfeedv1.Operation_OPERATION_UPDATE, OccurredAt: timestamppb.New(f.Since),
	}
	envs := envelope.New(ledgerfeedv1.Source_SOURCE_WEBHOOK, l.realm, event.GetId(), []*ledgerfeedv1.Event{event}, envelope.Meta{ReceivedAt: f.First})
	detail := fmt.Sprintf("quickbooks does not know the record and has not reported its deletion; %d scans since %s",
		f.Tries+1, f.First.UTC().Format(time.RFC3339))
	err := l.r.stream.PublishDead(ctx, stream.DeadLetter{
		ID: envs[0].GetId(), Reason: stream.ReasonNotFound, Detail: detail, RealmID: l.realm, Envelope: envs[0],
		Attempts: f.Tries + 1, FirstSeen: f.First, At: l.r.now(),
	})
	if err != nil {
		return fmt.Errorf("dead-letter a missing record: %w", err)
	}
	l.log.Warn("event dead-lettered, quickbooks does not know its record", telemetry.Entity(f.Entity), telemetry.EntityID(f.ID))
	return nil
}
