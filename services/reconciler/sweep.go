package reconciler

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// maxIDs is how many ids one `Id IN (…)` names: some 3 KB of URL.
const maxIDs = 300

// delivered returns the ids that are alive at some sink, with the newest
// version any sink has of each, and those of which one sink has a tombstone and another
// has not, with that of the tombstone. Where CDC has told of all deletions it has told all
// sinks of them, and a company may have many: those are not looked for.
func (s *scan) delivered(ctx context.Context, f *finding) (alive, buried map[string]int64, err error) {
	alive, buried = map[string]int64{}, map[string]int64{}
	told := map[string]int{}
	list := s.r.state.IDs
	if f.told {
		list = s.r.state.LiveIDs
	}
	for _, sink := range s.sinks {
		ids, err := list(ctx, s.realm, sink, f.entity)
		if err != nil {
			return nil, nil, fmt.Errorf("ids of %s at %s: %w", f.entity, sink, err)
		}
		for id, version := range ids {
			if qbo.IsTombstone(version) {
				told[id]++
				buried[id] = max(buried[id], version)
			} else {
				alive[id] = max(alive[id], version)
			}
		}
	}
	maps.DeleteFunc(buried, func(id string, _ int64) bool { return told[id] == len(s.sinks) })
	return alive, buried, nil
}

// bury tells the sinks that have no tombstone of what another one has, which is final.
// Of what CDC has not told a sink may hold a record nobody knows it has, since Redis has
// lost its mark.
func (s *scan) bury(ctx context.Context, f *finding, buried map[string]int64) error {
	dead := make([]qbo.Entity, 0, len(buried))
	for _, id := range slices.Sorted(maps.Keys(buried)) {
		dead = append(dead, qbo.Entity{Name: f.entity, ID: id, LastUpdated: qbo.VersionTime(buried[id]), Deleted: true})
	}
	events, err := s.compareAll(ctx, f, dead)
	if err != nil {
		return err
	}
	return s.publish(ctx, ledgerfeedv1.Source_SOURCE_QUERY, events)
}

// deletions finds what some sink has and QuickBooks no longer does. delivered
// are the ids of before the Query over the window, alive the ids it returned.
//
// Records updated since the window's start show in the Query if they exist. Of
// the older ones only the number is asked for: what is not updated since can
// only become less, so if as many are left as were delivered, none is gone, no
// matter what happens meanwhile. Only a difference costs the id sweep.
func (s *scan) deletions(ctx context.Context, f *finding, delivered map[string]int64, alive map[string]bool) error {
	var absent []string
	older := 0
	for id, version := range delivered {
		switch {
		case alive[id] || f.deleted[id]:
		case !f.since.IsZero() && qbo.VersionTime(version).Before(f.since):
			older++
		default:
			absent = append(absent, id)
		}
	}
	if older > 0 {
		left, at, err := s.count(ctx, statement{entity: f.entity, list: f.list, to: f.since})
		if err != nil {
			return err
		}
		f.answered(at)
		never, err := s.undelivered(ctx, f, delivered, alive)
		if err != nil {
			return err
		}
		if left != older+len(never) {
			if err := s.sweep(ctx, f, alive); err != nil {
				return err
			}
			maps.DeleteFunc(never, func(id string, _ bool) bool { return alive[id] })
			if err := s.r.state.ForgetDead(ctx, s.realm, f.entity, never); err != nil {
				return err
			}
			absent = absent[:0]
			for id := range delivered {
				if !alive[id] && !f.deleted[id] {
					absent = append(absent, id)
				}
			}
		}
	}
	slices.Sort(absent)
	for part := range slices.Chunk(absent, maxIDs) {
		if err := s.gone(ctx, f, part, delivered); err != nil {
			return err
		}
	}
	return nil
}

// undelivered are the ids of records older than the window that were dead letters once
// and that no sink has got since. That QuickBooks still has them is not known.
func (s *scan) undelivered(ctx context.Context, f *finding, delivered map[string]int64, alive map[string]bool) (map[string]bool, error) {
	dead, err := s.r.state.Undelivered(ctx, s.realm, f.entity, delivered)
	if err != nil {
		return nil, err
	}
	never := map[string]bool{}
	for id, version := range dead {
		if !alive[id] && !f.deleted[id] && (f.since.IsZero() || qbo.VersionTime(version).Before(f.since)) {
			never[id] = true
		}
	}
	return never, nil
}

// sweep reads all records older than the window, so that alive holds all ids.
// What it finds to be missing on the way is published too.
func (s *scan) sweep(ctx context.Context, f *finding, alive map[string]bool) error {
	s.r.metrics.sweeps.WithLabelValues(f.entity).Inc()
	return s.read(ctx, f, time.Time{}, f.since, alive)
}

// gone asks for the absent ids once more, each by its id, and publishes a
// deletion of those that are not there. A record whose delivered version is
// younger than the cursor will be is left to the next scan: the replica that
// answers may not know it yet, and a deletion once told is final.
func (s *scan) gone(ctx context.Context, f *finding, ids []string, delivered map[string]int64) error {
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		return !s.atRest && qbo.VersionTime(delivered[id]).After(f.time.Add(-margin))
	})
	p := presence{there: map[string]bool{}}
	if err := s.exist(ctx, f, ids, &p); err != nil {
		return err
	}
	var dead []qbo.Entity
	for _, id := range ids {
		if !p.there[id] {
			dead = append(dead, qbo.Entity{Name: f.entity, ID: id, LastUpdated: p.at, Deleted: true})
		}
	}
	events, err := s.compareAll(ctx, f, dead)
	if err != nil {
		return err
	}
	if err := s.publish(ctx, ledgerfeedv1.Source_SOURCE_QUERY, events); err != nil {
		return err
	}
	for _, id := range p.failing {
		if err := s.suspect(ctx, f, id); err != nil {
			return err
		}
	}
	return nil
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
