package reconciler

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/idset"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// maxIDs is how many ids one `Id IN (…)` names: some 3 KB of URL.
const maxIDs = 300

const (
	// sweepKept is how many pages of a sweep are read between two notes of how far it is:
	// each may go over all marks once.
	sweepKept = 1000
	// sweepResumed is how old a sweep may be to go on: what it has found to be there may
	// have been deleted since.
	sweepResumed = 24 * time.Hour
)

// second is the second of a version, as a number of an idset.
func second(version int64) uint32 { return secondOf(qbo.VersionTime(version)) }

func secondOf(t time.Time) uint32 { return uint32(min(max(t.Unix(), 0), math.MaxUint32)) }

// delivered reads which records are alive at some sink, and which dead letters no sink
// has.
func (s *scan) delivered(ctx context.Context, f *finding) error {
	most := 0
	for _, sink := range s.sinks {
		n, err := s.r.state.MarkedRecords(ctx, s.realm, sink, f.entity)
		if err != nil {
			return err
		}
		most = max(most, n)
	}
	f.held, f.dead = idset.New(most), idset.New(0)
	// Where CDC has told of all deletions it has told all sinks of them, and a company
	// may have many.
	bury := !f.told && len(s.sinks) > 1
	for _, sink := range s.sinks {
		err := s.r.state.EachMark(ctx, s.realm, sink, f.entity, func(records []state.Record) error {
			for _, r := range records {
				switch {
				case !qbo.IsTombstone(r.Version):
					f.held.Add(r.ID, second(r.Version))
				case bury:
					f.dead.Add(r.ID, 0)
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("ids of %s at %s: %w", f.entity, sink, err)
		}
	}
	f.held.Seal()
	f.dead.Seal()
	var err error
	f.undelivered, err = s.r.state.Undelivered(ctx, s.realm, f.entity, f.held.Has)
	return err
}

// shown notes that QuickBooks has a record, or that CDC has said what became of it.
func (f *finding) shown(id string) {
	f.held.Mark(id)
	f.dead.Mark(id)
	delete(f.undelivered, id)
}

// deletions finds what some sink has and QuickBooks no longer does. f.held is of before
// the Query over the window, and marked by it.
//
// Records updated since the window's start show in the Query if they exist. Of
// the older ones only the number is asked for: what is not updated since can
// only become less, so if as many are left as were delivered, none is gone, no
// matter what happens meanwhile. Only a difference costs the id sweep.
func (s *scan) deletions(ctx context.Context, f *finding) error {
	for id := range f.deleted {
		f.held.Mark(id)
		delete(f.undelivered, id)
	}
	since := secondOf(f.since)
	from := since
	// CDC has told of deletions until now where it refuses the entity for the first time.
	if (f.asked == 0 || f.load) && f.held.Count(0, since) > 0 {
		same, err := s.counted(ctx, f)
		if err != nil {
			return err
		}
		if !same {
			if err := s.sweep(ctx, f); err != nil {
				return err
			}
			from = 0
		}
	}
	if err := s.absentees(ctx, f, from, math.MaxUint32); err != nil || f.swept.At.IsZero() {
		return err
	}
	return s.r.state.SetSwept(ctx, s.realm, f.entity, state.Sweep{})
}

// counted reports whether QuickBooks has as many records older than the window as were
// delivered or are dead letters. Where COUNT is refused it does not.
func (s *scan) counted(ctx context.Context, f *finding) (bool, error) {
	if s.uncounted(f.entity) {
		return false, nil
	}
	older := f.held.Count(0, secondOf(f.since))
	for _, version := range f.undelivered {
		if qbo.VersionTime(version).Before(f.since) {
			older++
		}
	}
	left, at, err := s.count(ctx, statement{entity: f.entity, list: f.list, to: f.since})
	if countRefused(ctx, err) {
		f.uncounted = err // the sweep shows whether the entity is refused
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s.accepts(ctx, f, wayCount)
	f.answered(at)
	return left == older, nil
}

// sweep reads all records older than the window, so that those that exist are marked.
// What it finds to be missing on the way is published too. A sweep that was broken off
// goes on where it was.
func (s *scan) sweep(ctx context.Context, f *finding) error {
	s.r.metrics.sweeps.WithLabelValues(f.entity).Inc()
	now := s.r.now()
	var err error
	if f.swept, err = s.r.state.Swept(ctx, s.realm, f.entity); err != nil {
		return err
	}
	if f.swept.At.IsZero() || now.Sub(f.swept.Began) > sweepResumed || f.swept.At.After(f.since) {
		f.swept = state.Sweep{Began: now, At: time.Unix(0, 0)}
	}
	f.held.MarkBelow(secondOf(f.swept.At))
	from := f.swept.At
	if from.Unix() <= 0 {
		from = time.Time{}
	}
	f.pages = 0
	if err := s.read(ctx, f, from, f.since); err != nil {
		return err
	}
	if f.uncounted != nil {
		s.keepUncounted(ctx, f.entity, f.uncounted)
	}
	// Dead letters of records that QuickBooks does not have any more.
	gone := map[string]bool{}
	for id, version := range f.undelivered {
		if at := qbo.VersionTime(version); at.Before(f.since) && !at.Before(from) {
			gone[id] = true
		}
	}
	return s.r.state.ForgetDead(ctx, s.realm, f.entity, gone)
}

// keepSwept notes how far a sweep is, after the absent records of before are noted.
func (s *scan) keepSwept(ctx context.Context, f *finding, items []qbo.Entity) error {
	if f.swept.At.IsZero() || f.plain || len(items) == 0 {
		return nil
	}
	if f.pages++; f.pages%sweepKept != 0 {
		return nil
	}
	// More records of the last second may follow.
	at := items[len(items)-1].LastUpdated.Truncate(time.Second)
	if !at.After(f.swept.At) {
		return nil
	}
	if err := s.absentees(ctx, f, secondOf(f.swept.At), secondOf(at)); err != nil {
		return err
	}
	f.held.MarkBelow(secondOf(at))
	f.swept.At = at
	return s.r.state.SetSwept(ctx, s.realm, f.entity, f.swept)
}

// absentees notes the records without a mark whose versions are of these seconds.
func (s *scan) absentees(ctx context.Context, f *finding, from, to uint32) error {
	n := f.held.Count(from, to)
	if n == 0 {
		return nil
	}
	var absent []state.Absence
	for _, sink := range s.sinks {
		err := s.r.state.EachMark(ctx, s.realm, sink, f.entity, func(records []state.Record) error {
			for _, r := range records {
				at, ok := f.held.Unmarked(r.ID)
				if !ok || at < from || at >= to || qbo.IsTombstone(r.Version) {
					continue
				}
				if second(r.Version) != at {
					continue // of another sink, or delivered since: a read has returned it
				}
				f.held.Mark(r.ID)
				absent = append(absent, state.Absence{Ref: state.Ref{Entity: f.entity, ID: r.ID}, Version: r.Version})
			}
			for len(absent) >= maxIDs {
				if err := s.miss(ctx, f, absent[:maxIDs], n); err != nil {
					return err
				}
				absent = append(absent[:0], absent[maxIDs:]...)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return s.miss(ctx, f, absent, n)
}

// bury tells the sinks that have no tombstone of what another one has.
// Of what CDC has not told a sink may hold a record nobody knows it has, since Redis has
// lost its mark.
func (s *scan) bury(ctx context.Context, f *finding) error {
	if f.dead.Len() == 0 {
		return nil
	}
	for _, sink := range s.sinks {
		err := s.r.state.EachMark(ctx, s.realm, sink, f.entity, func(records []state.Record) error {
			var dead []qbo.Entity
			for _, r := range records {
				// What was returned is no deletion, whoever says so.
				if _, absent := f.dead.Unmarked(r.ID); !absent || !qbo.IsTombstone(r.Version) {
					continue
				}
				dead = append(dead, qbo.Entity{Name: f.entity, ID: r.ID, LastUpdated: qbo.VersionTime(r.Version), Deleted: true})
			}
			return s.tombstones(ctx, f, dead, ledgerfeedv1.Evidence_EVIDENCE_SINK)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// tombstones publishes deletions that some sink lacks.
func (s *scan) tombstones(ctx context.Context, f *finding, dead []qbo.Entity, on ledgerfeedv1.Evidence) error {
	if len(dead) == 0 {
		return nil
	}
	events, err := s.compareAll(ctx, f, dead)
	if err != nil {
		return err
	}
	for _, item := range dead {
		delete(f.deleted, item.ID) // which are those of CDC
	}
	for _, e := range events {
		e.Evidence = on
	}
	return s.publish(ctx, ledgerfeedv1.Source_SOURCE_QUERY, events)
}

// presence is which of some records there are.
type presence struct {
	there   map[string]bool
	failing []string  // there, but every Query fails on them
	at      time.Time // when the last answer was given
}

// exist asks for records by their ids.
func (s *scan) exist(ctx context.Context, f *finding, ids []string, p *presence) error {
	if len(ids) == 0 {
		return nil
	}
	if f.plain {
		return s.existPlain(ctx, f, ids, p)
	}
	q := statement{entity: f.entity, list: f.list, ids: ids, rows: maxRows}
	res, err := s.callQuery(ctx, q.String())
	switch {
	case err == nil:
		for _, item := range res.Entities {
			p.there[item.ID] = true
		}
		if res.Time.After(p.at) {
			p.at = res.Time
		}
		return nil
	case !poisoned(ctx, err) && !tooLarge(err):
		return err
	case len(ids) == 1:
		p.there[ids[0]] = true
		p.failing = append(p.failing, ids[0])
		return nil
	}
	if err := s.exist(ctx, f, ids[:len(ids)/2], p); err != nil {
		return err
	}
	return s.exist(ctx, f, ids[len(ids)/2:], p)
}

// existPlain is exist for an entity that cannot be filtered: all of it is read.
func (s *scan) existPlain(ctx context.Context, f *finding, ids []string, p *presence) error {
	asked := map[string]bool{}
	for _, id := range ids {
		asked[id] = true
	}
	return s.readPlain(ctx, f.entity, f.list, func(items []qbo.Entity, at time.Time) error {
		for _, item := range items {
			if asked[item.ID] {
				p.there[item.ID] = true
			}
		}
		if at.After(p.at) {
			p.at = at
		}
		return nil
	})
}

// readPlain reads all records of an entity without a condition or an order.
func (s *scan) readPlain(ctx context.Context, name string, list bool, page func([]qbo.Entity, time.Time) error) error {
	k := &keyset{
		query: s.callQuery, now: s.r.now, base: statement{entity: name, list: list, plain: true}, page: page,
	}
	return k.window(ctx, time.Time{}, time.Time{})
}
