package reconciler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

const (
	// lookAgain is how far apart two answers must be that do not return a record, by
	// Intuit's clock, before it counts as deleted: well beyond any read lag.
	lookAgain = 15 * time.Minute
	// lookAgainMost bounds how far rejections stretch that.
	lookAgainMost = 7 * 24 * time.Hour
)

// stretched is d after so many rejections.
func stretched(d time.Duration, rejections int) time.Duration {
	return min(d<<min(2*rejections, 20), max(d, lookAgainMost))
}

// miss handles delivered records that an answer did not return: it asks for them by
// id, and notes those that are not returned either. of is how many are missed in all.
// A record whose delivered version is younger than the cursor will be is left to the
// next scan: the replica that answers may not know it yet.
func (s *scan) miss(ctx context.Context, f *finding, absent []state.Absence, of int) error {
	alive, err := s.aliveVersions(ctx, absent)
	if err != nil {
		return err
	}
	var old []state.Absence
	for i, a := range absent {
		a.Version = alive[i]
		if a.Version > 0 && (s.atRest || !qbo.VersionTime(a.Version).After(f.time.Add(-margin))) {
			old = append(old, a)
		}
	}
	if absent = old; len(absent) == 0 {
		return nil
	}
	at := f.time
	// At rest the read that decides is made at once, and many are held back anyway:
	// reading them twice costs a call for 300 of them.
	if !s.atRest && !mass(of, f.held.Len()) {
		p := presence{there: map[string]bool{}}
		if err := s.exist(ctx, f, idsOf(absent), &p); err != nil {
			return err
		}
		at = p.at
		absent = slices.DeleteFunc(absent, func(a state.Absence) bool { return p.there[a.ID] })
		if err := s.suspects(ctx, f, p.failing); err != nil {
			return err
		}
	}
	for i := range absent {
		absent[i].First = at
	}
	full, err := s.r.state.NoteAbsences(ctx, s.realm, absent)
	if full {
		s.log.Warn("too many absent records; the next scan continues", telemetry.Entity(f.entity), telemetry.Count(of))
	}
	return err
}

func (s *scan) suspects(ctx context.Context, f *finding, ids []string) error {
	for _, id := range ids {
		if err := s.suspect(ctx, f, id); err != nil {
			return err
		}
	}
	return nil
}

func idsOf(absent []state.Absence) []string {
	ids := make([]string, len(absent))
	for i, a := range absent {
		ids[i] = a.ID
	}
	return ids
}

func refsOf(absent []state.Absence) []state.Ref {
	refs := make([]state.Ref, len(absent))
	for i, a := range absent {
		refs[i] = a.Ref
	}
	return refs
}

// confirm makes deletions of the noted records of an entity that a second answer, long
// enough after the first, does not return either. A record that is returned, or was
// delivered since, is noted no more. A deletion stays noted until every sink has the
// tombstone: no cursor speaks for it.
func (s *scan) confirm(ctx context.Context, f *finding, noted []state.Absence) error {
	held, err := s.r.state.HeldDeletion(ctx, s.realm, f.entity)
	if err != nil {
		return err
	}
	noted, err = s.stillAlive(ctx, noted)
	if err != nil {
		return err
	}
	now := s.intuits()
	distance := stretched(lookAgain, held.Rejections)
	if s.atRest && held.Rejections == 0 {
		distance = 0
	}
	if sabotage.On(sabotage.OneSweepDeletes) {
		distance = 0
	}
	due, next := split(noted, now.Add(-distance))
	if !next.IsZero() {
		if err := s.comeBack(ctx, next.Add(distance).Sub(now)); err != nil {
			return err
		}
	}
	if len(due) == 0 {
		if len(noted) == 0 && held.State != state.DeletionRejected {
			return s.r.state.EndHeldDeletion(ctx, held) // nothing is left of it
		}
		return nil
	}
	due, err = s.allowed(ctx, f, &held, due, now)
	if err != nil || len(due) == 0 {
		return err
	}
	return s.confirmed(ctx, f, held, due)
}

// confirmed asks for records once more and publishes the deletion of those that are
// not returned.
func (s *scan) confirmed(ctx context.Context, f *finding, held state.HeldDeletion, due []state.Absence) error {
	trusted, err := s.unfiltered(ctx, f)
	if err != nil {
		return err
	}
	if !trusted {
		s.log.Warn("deletions not concluded; the filter for inactive records hides some", telemetry.Entity(f.entity), telemetry.Count(len(due)))
		return nil
	}
	var gone []qbo.Entity
	for part := range slices.Chunk(due, maxIDs) {
		p := presence{there: map[string]bool{}}
		if err := s.exist(ctx, f, idsOf(part), &p); err != nil {
			return err
		}
		if err := s.suspects(ctx, f, p.failing); err != nil {
			return err
		}
		var back []state.Ref
		for _, a := range part {
			if p.there[a.ID] {
				back = append(back, a.Ref)
				continue
			}
			gone = append(gone, qbo.Entity{Name: f.entity, ID: a.ID, LastUpdated: p.at, Deleted: true})
		}
		if err := s.r.state.EndAbsences(ctx, s.realm, back); err != nil {
			return err
		}
	}
	if held.State == state.DeletionHeld && len(gone) < len(due) {
		// Not the same result: it waits from the beginning.
		return s.hold(ctx, f, held, due, s.intuits())
	}
	if held.State == state.DeletionHeld {
		held.State, held.By = state.DeletionApproved, "a second scan"
		if err := s.r.state.HoldDeletion(ctx, held); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(gone, maxRows) {
		if err := s.tombstones(ctx, f, part, ledgerfeedv1.Evidence_EVIDENCE_SWEEPS); err != nil {
			return err
		}
	}
	return nil
}

// stillAlive drops what is noted of records that some delivery has reached since: a read
// returned them, or every sink has a tombstone.
func (s *scan) stillAlive(ctx context.Context, noted []state.Absence) ([]state.Absence, error) {
	var kept []state.Absence
	var over []state.Ref
	for part := range slices.Chunk(noted, maxRows) {
		alive, err := s.aliveVersions(ctx, part)
		if err != nil {
			return nil, err
		}
		for i, a := range part {
			if alive[i] == a.Version {
				kept = append(kept, a)
			} else {
				over = append(over, a.Ref)
			}
		}
	}
	return kept, s.r.state.EndAbsences(ctx, s.realm, over)
}

// aliveVersions are the newest versions that sinks have of records, tombstones left out;
// 0 where no sink has one.
func (s *scan) aliveVersions(ctx context.Context, of []state.Absence) ([]int64, error) {
	alive := make([]int64, len(of))
	for _, sink := range s.sinks {
		marks, err := s.r.state.Marks(ctx, s.realm, sink, refsOf(of))
		if err != nil {
			return nil, err
		}
		for i, m := range marks {
			if !qbo.IsTombstone(m.Version) {
				alive[i] = max(alive[i], m.Version)
			}
		}
	}
	return alive, nil
}

// split parts what was missed first by a time from the rest, and returns when the
// first of the rest was.
func split(noted []state.Absence, by time.Time) (due []state.Absence, next time.Time) {
	for _, a := range noted {
		switch {
		case !a.First.After(by):
			due = append(due, a)
		case next.IsZero() || a.First.Before(next):
			next = a.First
		}
	}
	return due, next
}

// comeBack makes the realm due again after that time.
func (s *scan) comeBack(ctx context.Context, after time.Duration) error {
	return s.r.state.ScheduleIn(ctx, s.realm, after+clockDifference)
}

// intuits is Intuit's clock at the latest answer.
func (s *scan) intuits() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock
}

// heard notes the time of an answer.
func (s *scan) heard(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at.After(s.clock) {
		s.clock = at
	}
}

// confirmNoted confirms what is noted of an entity that Query was asked for.
func (s *scan) confirmNoted(ctx context.Context, f *finding) error {
	all, err := s.r.state.Absences(ctx, s.realm)
	if err != nil || len(all[f.entity]) == 0 {
		return err
	}
	return s.confirm(ctx, f, all[f.entity])
}

// confirmAll confirms what is noted of the other entities.
func (s *scan) confirmAll(ctx context.Context, o order, asked []*finding) error {
	if s.intuits().IsZero() {
		return nil // no answer says what time it is
	}
	all, err := s.r.state.Absences(ctx, s.realm)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !o.wants(name) || slices.ContainsFunc(asked, func(f *finding) bool { return f.entity == name }) {
			continue
		}
		f := newFinding(s.task(name, s.r.now(), order{}))
		err := s.confirm(ctx, f, all[name])
		if err == nil {
			err = s.verifyToo(ctx, f)
		}
		if err != nil && blocked(ctx, err) {
			return err
		}
		if err != nil {
			s.log.Warn("absent records not checked; the next scan will retry", telemetry.Entity(name), telemetry.Error(err))
		}
	}
	return nil
}

// verifyToo has what was published beside the reading of an entity verified as well. The
// cursor stays where the scan found it: the absent records remain noted until they are
// tombstones.
func (s *scan) verifyToo(ctx context.Context, f *finding) error {
	cursor := s.cursors[f.entity]
	if len(f.missing) == 0 || cursor.IsZero() {
		return nil
	}
	s.mu.Lock()
	s.saved++
	id := fmt.Sprintf("%d-%s", s.saved, s.id)
	s.mu.Unlock()
	p, err := s.r.verifier.remember(ctx, s.realm, state.Scan{
		ID: id, StartedAt: s.r.now(), Time: s.intuits(),
		Cursors: map[string]time.Time{f.entity: cursor}, Missing: f.missing,
		From: s.cursors, Generation: s.generation,
	})
	if err != nil {
		return err
	}
	p.setPublished(f.published)
	s.mu.Lock()
	s.pending = append(s.pending, p)
	s.mu.Unlock()
	return nil
}

// unfiltered reports whether the condition on Active, or its absence, leaves no record
// out: an entity may ignore it, or have inactive records though we do not know it as a
// name list. Only then does a record's absence say anything.
func (s *scan) unfiltered(ctx context.Context, f *finding) (bool, error) {
	if s.uncounted(f.entity) {
		return s.namesInactive(ctx, f)
	}
	plain, all, err := s.counts(ctx, f.entity, statement{}, statement{list: true})
	if errors.Is(err, qbo.ErrInvalidQuery) {
		return !listed(f.entity), nil // there is no such property: nothing can be hidden by it
	}
	if err != nil {
		return false, err
	}
	// Records are read with it from here on.
	f.list = f.list || all > plain
	if !f.list {
		return true, nil
	}
	// A record may be made between two counts: then they are made once more.
	for range 2 {
		inactive, all, err := s.counts(ctx, f.entity, statement{inactive: true}, statement{list: true})
		if err != nil || all == plain+inactive {
			return err == nil, err
		}
		if plain, _, err = s.counts(ctx, f.entity, statement{}); err != nil {
			return false, err
		}
	}
	return false, nil
}

// counts asks for one or two numbers of records.
func (s *scan) counts(ctx context.Context, entity string, qs ...statement) (a, b int, err error) {
	for i, q := range qs {
		q.entity = entity
		n, _, err := s.count(ctx, q)
		if err != nil {
			return 0, 0, err
		}
		if i == 0 {
			a = n
		} else {
			b = n
		}
	}
	return a, b, nil
}
