package reconciler

import (
	"context"
	"fmt"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// query reads what of one entity has changed since its cursor, or all of it,
// then looks for what was deleted, and concludes the finding. Pages are
// compared and published as they come.
func (s *scan) query(ctx context.Context, f *finding) error {
	// Before the first page: whatever of this is alive then shows in a page,
	// or has not changed since.
	if err := s.delivered(ctx, f); err != nil {
		return err
	}
	whole := f.readsWhole()
	if whole {
		f.since = time.Time{}
	}
	err := s.read(ctx, f, f.since, time.Time{})
	if !f.plain && filterRefused(err) {
		s.keepRefusal(ctx, doubt{entity: f.entity, way: wayFilter, err: err}, true)
		f.plain = true
		err = s.read(ctx, f, time.Time{}, time.Time{})
	}
	if f.plain && f.list && filterRefused(err) {
		// By Active neither: inactive records may be hidden, see unfiltered.
		f.list = false
		err = s.read(ctx, f, time.Time{}, time.Time{})
	}
	if err != nil {
		return fmt.Errorf("query %s: %w", f.entity, err)
	}
	s.accepts(ctx, f, wayQuery)
	if f.plain {
		f.since = time.Time{} // all of it was read
	}
	steps := []func(context.Context, *finding) error{s.deletions, s.confirmNoted, s.bury}
	if whole {
		steps = append(steps, s.forgetGone)
	}
	if info, _ := entity.Lookup(f.entity); info.Lasting {
		steps = nil
	}
	for _, step := range steps {
		if err := step(ctx, f); err != nil {
			return fmt.Errorf("deletions of %s: %w", f.entity, err)
		}
	}
	if len(f.unread) > 0 {
		return fmt.Errorf("%w: quickbooks fails on %d records whose ids are not known, one last updated at %s",
			errUnreadable, len(f.unread), qbo.FormatTime(f.unread[0]))
	}
	if f.noKey > 0 {
		return fmt.Errorf("query %s: %w", f.entity, noKeys(f.noKey))
	}
	if f.overflow {
		return fmt.Errorf("query %s: %w", f.entity, errBehind)
	}
	if err := s.conclude(ctx, ledgerfeedv1.Source_SOURCE_QUERY, []*finding{f}, nil); err != nil {
		return err
	}
	if f.loaded.IsZero() || len(f.missing) > 0 {
		return nil // what is not delivered yet may have to be read again
	}
	return s.r.state.SetLoaded(ctx, s.realm, f.entity, time.Time{})
}

// wholeAtMost is up to how many records an entity that only Query finds is read from the
// first one on: that is one call, and shows the deletions as well, where a window and a
// count of the older ones are two.
const wholeAtMost = 500

func (f *finding) readsWhole() bool {
	return !f.load && f.changedSince.IsZero() && f.held.Len() <= wholeAtMost
}

// forgetGone forgets the dead letters of records that no sink has, and that QuickBooks
// does not have any more: all of its records were read.
func (s *scan) forgetGone(ctx context.Context, f *finding) error {
	if len(f.unread) > 0 {
		return nil // it may be one that could not be read
	}
	gone := map[string]bool{}
	for id, version := range f.undelivered {
		if qbo.VersionTime(version).Before(f.time.Add(-margin)) {
			gone[id] = true
		}
	}
	return s.r.state.ForgetDead(ctx, s.realm, f.entity, gone)
}

// noKeys says that rows were left out, which no sink can have.
func noKeys(n int) error {
	return fmt.Errorf("%w: %d of its records have no id and no other key", errUnreadable, n)
}

// read pages through the window and publishes what is missing; the ids it sees
// are marked.
func (s *scan) read(ctx context.Context, f *finding, from, to time.Time) error {
	room := &room{s: s, expected: PageLimit}
	defer room.leave()
	noted, err := s.r.state.HasAbsences(ctx, s.realm)
	if err != nil {
		return err
	}
	k := &keyset{
		now:  s.r.now,
		base: statement{entity: f.entity, list: f.list, plain: f.plain},
		page: func(items []qbo.Entity, at time.Time) error {
			defer room.leave()
			if err := s.expect(ctx, f, len(items), from); err != nil {
				return err
			}
			s.foundFields(ctx, items)
			events, err := s.compare(ctx, f, items, at)
			if err != nil {
				return err
			}
			for _, item := range items {
				f.shown(item.ID)
			}
			if noted {
				if err := s.r.state.EndAbsences(ctx, s.realm, refsIn(items)); err != nil {
					return err
				}
			}
			if err := s.publish(ctx, ledgerfeedv1.Source_SOURCE_QUERY, events); err != nil {
				return err
			}
			s.tell()
			if err := s.keepLoaded(ctx, f, items); err != nil {
				return err
			}
			return s.keepSwept(ctx, f, items)
		},
		unread: func(second time.Time) { f.unread = append(f.unread, second) },
	}
	k.query = func(ctx context.Context, statement string) (qbo.QueryResult, error) {
		room.leave()
		if err := s.keepUp(ctx, f); err != nil {
			return qbo.QueryResult{}, err
		}
		if err := room.enter(ctx); err != nil {
			return qbo.QueryResult{}, err
		}
		client := s.client
		if k.rows > 0 && k.rows <= minRows {
			client = s.whole
		}
		res, err := s.queryBy(ctx, client, statement)
		room.met(res)
		return res, err
	}
	err = k.window(ctx, from, to)
	f.noKey += k.noKey
	return err
}

func refsIn(items []qbo.Entity) []state.Ref {
	refs := make([]state.Ref, len(items))
	for i, item := range items {
		refs[i] = state.Ref{Entity: item.Name, ID: item.ID}
	}
	return refs
}

func (s *scan) callQuery(ctx context.Context, statement string) (qbo.QueryResult, error) {
	return s.queryBy(ctx, s.client, statement)
}

func (s *scan) queryBy(ctx context.Context, client *qbo.Client, statement string) (qbo.QueryResult, error) {
	res, err := client.Query(ctx, s.realm, statement)
	s.called("query", err)
	s.heard(res.Time)
	return res, err
}

// called counts a call.
func (s *scan) called(kind string, err error) {
	s.r.metrics.called(kind, err)
	s.mu.Lock()
	s.calls++
	if err == nil {
		s.answers++
	}
	s.mu.Unlock()
	s.tell()
}

// count asks how many records match.
func (s *scan) count(ctx context.Context, q statement) (int, time.Time, error) {
	res, err := s.callQuery(ctx, q.count())
	return res.TotalCount, res.Time, err
}
