package reconciler

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// compare returns the events of the items that some sink lacks, out of an
// answer of that time. Changes younger than the grace are left to their
// webhooks; the finding remembers the oldest, so that the cursor stays before it.
func (s *scan) compare(ctx context.Context, f *finding, items []qbo.Entity, at time.Time) ([]*ledgerfeedv1.Event, error) {
	f.answered(at)
	return s.lacking(ctx, f, items, func(item qbo.Entity) bool {
		// A time that we made up says nothing of when its webhook was sent, and a record that
		// a read was too old for has had its webhook.
		_, followed := s.follow[state.Ref{Entity: f.entity, ID: item.ID}]
		noTime := item.NoTime && !sabotage.On(sabotage.InventedTimeRecent)
		return f.grace && !followed && !noTime && at.Sub(item.LastUpdated) < s.grace && item.LastUpdated.After(s.settled)
	})
}

// compareAll is compare without a grace, for what no webhook will bring.
func (s *scan) compareAll(ctx context.Context, f *finding, items []qbo.Entity) ([]*ledgerfeedv1.Event, error) {
	return s.lacking(ctx, f, items, func(qbo.Entity) bool { return false })
}

func (s *scan) lacking(ctx context.Context, f *finding, items []qbo.Entity, young func(qbo.Entity) bool) ([]*ledgerfeedv1.Event, error) {
	fresh := make([]qbo.Entity, 0, len(items))
	want := make([]state.Missing, 0, len(items))
	for _, item := range items {
		if item.Deleted {
			f.deleted[item.ID] = true
		}
		if f.seen.has(item.ID, item.Version()) {
			continue // pages overlap
		}
		f.seen.add(item.ID, item.Version())
		fresh = append(fresh, item)
		want = append(want, state.Missing{Ref: state.Ref{Entity: f.entity, ID: item.ID}, Version: item.Version()})
	}
	s.saw(f, fresh)
	s.noteCompany(ctx, fresh)
	s.gather(fresh)
	s.references(f, fresh)
	lacks, differs, gone, err := s.r.differences(ctx, s.realm, s.sinks, want, fresh)
	if err != nil {
		return nil, err
	}
	if err := s.noteShown(ctx, want, gone); err != nil {
		return nil, err
	}
	if f.cut {
		if differs, err = s.recheck(ctx, f, fresh, want, differs); err != nil {
			return nil, err
		}
	}
	var missing []qbo.Entity
	hashes := map[string]string{}
	for i, item := range fresh {
		switch {
		case differs[i] && !lacks[i]:
			// Its version is delivered, so that it holds back no cursor.
			missing = append(missing, item)
			hashes[item.ID] = qbo.ContentHash(item.Raw)
		case !lacks[i]:
		case young(item):
			if f.left.IsZero() || item.LastUpdated.Before(f.left) {
				f.left = item.LastUpdated
			}
		default:
			f.missing = append(f.missing, want[i])
			if on, ok := s.underway[want[i].Ref]; !ok || on < want[i].Version {
				missing = append(missing, item)
				f.published[want[i].Ref] = true
			}
		}
	}
	events := s.events(f, missing)
	for _, e := range events {
		e.ContentHash = hashes[e.GetEntityId()]
	}
	return events, s.forget(ctx, f)
}

// noteShown has this scan look by id at the records that it was shown although a sink
// holds a later tombstone of them: gone has its version, 0 if there is none. A tombstone
// is noted when it is written, but Redis may have lost the note.
func (s *scan) noteShown(ctx context.Context, shown []state.Missing, gone []int64) error {
	var all []state.FollowUp
	for i, version := range gone {
		if _, noted := s.follow[shown[i].Ref]; version == 0 || noted || sabotage.On(sabotage.TombstoneFinal) {
			continue
		}
		all = append(all, state.FollowUp{
			Ref: shown[i].Ref, Kind: state.FollowUpTombstone, Since: qbo.VersionTime(version), First: s.r.now(),
		})
	}
	if len(all) == 0 {
		return nil
	}
	s.followMore.Store(true)
	return s.r.state.NoteFollowUps(ctx, s.realm, all)
}

// saw counts records, and those of them that have changed since the last scan.
func (s *scan) saw(f *finding, items []qbo.Entity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items += len(items)
	f.items += len(items)
	for _, item := range items {
		if item.LastUpdated.After(f.latest) {
			f.latest = item.LastUpdated
		}
		// Not what a cursor that cannot move shows again and again.
		if !f.load && item.LastUpdated.After(f.cursor) && item.LastUpdated.After(s.pace.Scanned.Add(-margin)) {
			s.changed++
		}
	}
}

// lacks reports of each change whether some sink has neither it nor a newer one,
// and it is no dead letter of that sink either.
func (r *Reconciler) lacks(ctx context.Context, realm string, sinks []string, changes []state.Missing) ([]bool, error) {
	lacks, _, _, err := r.differences(ctx, realm, sinks, changes, nil)
	return lacks, err
}

// differences is lacks, and reports too which of the documents, if they are given,
// differ from what some sink was given at that very version, and the version of the
// tombstone that some sink holds of a record that is shown.
func (r *Reconciler) differences(ctx context.Context, realm string, sinks []string, changes []state.Missing, documents []qbo.Entity) (lacks, differs []bool, gone []int64, err error) {
	lacks, differs, gone = make([]bool, 0, len(changes)), make([]bool, len(changes)), make([]int64, len(changes))
	for at := 0; at < len(changes); at += maxRows {
		end := min(at+maxRows, len(changes))
		var some []qbo.Entity
		if documents != nil {
			some = documents[at:end]
		}
		part, err := r.lacksPart(ctx, realm, sinks, changes[at:end], some, differs[at:end], gone[at:end])
		if err != nil {
			return nil, nil, nil, err
		}
		lacks = append(lacks, part...)
	}
	return lacks, differs, gone, nil
}

func (r *Reconciler) lacksPart(ctx context.Context, realm string, sinks []string, changes []state.Missing, documents []qbo.Entity, differs []bool, gone []int64) ([]bool, error) {
	refs := make([]state.Ref, len(changes))
	for i, c := range changes {
		refs[i] = c.Ref
	}
	lacks := make([]bool, len(changes))
	for _, sink := range sinks {
		marks, err := r.state.Marks(ctx, realm, sink, refs)
		if err != nil {
			return nil, fmt.Errorf("marks of %s: %w", sink, err)
		}
		var unsure []state.Missing
		var at []int
		for i, m := range marks {
			switch {
			case !reached(m.Version, changes[i].Version):
				// One sink that lacks it is enough.
				if !lacks[i] {
					unsure, at = append(unsure, changes[i]), append(at, i)
				}
			case documents != nil && qbo.IsTombstone(m.Version) && !documents[i].Deleted:
				gone[i] = max(gone[i], m.Version)
			case documents != nil && m.Version == changes[i].Version && m.Hash != "" && !documents[i].Deleted:
				differs[i] = differs[i] || m.Hash != qbo.ContentHash(documents[i].Raw) && !sabotage.On(sabotage.ContentIgnored)
			}
		}
		dead, err := r.dead(ctx, realm, sink, unsure)
		if err != nil {
			return nil, err
		}
		for i, is := range dead {
			lacks[at[i]] = !is
		}
		if sabotage.On(sabotage.DeadLetterHidesAllSinks) {
			for _, other := range sinks {
				dead, err := r.dead(ctx, realm, other, unsure)
				if err != nil {
					return nil, err
				}
				for i, is := range dead {
					lacks[at[i]] = lacks[at[i]] && !is
				}
			}
		}
	}
	return lacks, nil
}

// dead reports of each change whether it is a dead letter of that sink. What another sink
// refused is none of it, and neither is a letter that was requeued, purged or lost.
func (r *Reconciler) dead(ctx context.Context, realm, sink string, changes []state.Missing) ([]bool, error) {
	is := make([]bool, len(changes))
	if len(changes) == 0 {
		return is, nil
	}
	refs := make([]state.Ref, len(changes))
	for i, c := range changes {
		refs[i] = c.Ref
	}
	records, err := r.state.Dead(ctx, realm, sink, refs)
	if err != nil {
		return nil, fmt.Errorf("dead letters of %s: %w", sink, err)
	}
	for i, d := range records {
		if !reached(d.Version, changes[i].Version) {
			continue
		}
		if is[i] = d.Letter == 0 || sabotage.On(sabotage.DeadLetterNeverEnds); is[i] {
			continue
		}
		if is[i], err = r.stream.HasDead(ctx, d.Letter, realm, sink, d.Entity, d.ID); err != nil {
			return nil, fmt.Errorf("dead letters of %s: %w", sink, err)
		}
	}
	return is, nil
}

// reached reports whether a delivered version settles a wanted one. Two
// tombstones of one record may disagree about when it was deleted, and of a
// record without a time (0) any state will do. A tombstone is not final: a state
// that was read with a higher version is lacking.
func reached(have, want int64) bool {
	if sabotage.On(sabotage.TiesDropped) && qbo.VersionTime(have).Equal(qbo.VersionTime(want)) {
		return true
	}
	if sabotage.On(sabotage.TombstoneFinal) && qbo.IsTombstone(have) {
		return true
	}
	return have != 0 && (!qbo.Newer(have, want) || qbo.IsTombstone(have) && qbo.IsTombstone(want))
}

// rememberAtOnce bounds the missing changes a scan holds before it looks which
// of them have been delivered in the meantime.
const rememberAtOnce = 5000

// forget drops what has been delivered since it was published, every time the
// missing changes of a finding have doubled: an initial load of any size then
// holds what is on its way, not all that it found.
func (s *scan) forget(ctx context.Context, f *finding) error {
	if f.overflow {
		f.drop()
	}
	if len(f.missing) < max(rememberAtOnce, 2*f.kept) {
		return nil
	}
	return s.prune(ctx, f)
}

// pick returns the changes that are lacking.
func pick(changes []state.Missing, lacks []bool) []state.Missing {
	var out []state.Missing
	for i, c := range changes {
		if lacks[i] {
			out = append(out, c)
		}
	}
	return out
}

// events says what the processor has to look at: an update, or the deletion,
// at the version the scan saw.
func (s *scan) events(f *finding, items []qbo.Entity) []*ledgerfeedv1.Event {
	events := make([]*ledgerfeedv1.Event, len(items))
	for i, item := range items {
		operation := ledgerfeedv1.Operation_OPERATION_UPDATE
		evidence := ledgerfeedv1.Evidence_EVIDENCE_UNSPECIFIED
		if item.Deleted {
			operation, evidence = ledgerfeedv1.Operation_OPERATION_DELETE, ledgerfeedv1.Evidence_EVIDENCE_CDC
		}
		events[i] = &ledgerfeedv1.Event{
			Id:        fmt.Sprintf("%s/%s/%s", s.id, f.entity, item.ID),
			Entity:    f.entity,
			EntityId:  item.ID,
			Operation: operation,
			Version:   item.Version(),
			Evidence:  evidence,
		}
		if !item.LastUpdated.IsZero() && !item.NoTime {
			events[i].OccurredAt = timestamppb.New(item.LastUpdated)
		}
	}
	return events
}
