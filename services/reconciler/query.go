package reconciler

import (
	"context"
	"fmt"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
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
	err := s.read(ctx, f, f.since, time.Time{})
	if !f.plain && filterRefused(err) {
		s.keepRefusal(ctx, doubt{entity: f.entity, way: wayFilter, err: err}, true)
		f.plain = true
		err = s.read(ctx, f, time.Time{}, time.Time{})
		if f.list && filterRefused(err) {
			f.list = false
			err = s.read(ctx, f, time.Time{}, time.Time{})
		}
	}
	if err != nil {
		return fmt.Errorf("query %s: %w", f.entity, err)
	}
	s.accepts(ctx, f, wayQuery)
	if f.plain {
		f.since = time.Time{} // all of it was read
	}
	for _, step := range []func(context.Context, *finding) error{s.deletions, s.confirmNoted, s.bury} {
		if err := step(ctx, f); err != nil {
			return fmt.Errorf("deletions of %s: %w", f.entity, err)
		}
	}
	if len(f.unread) > 0 {
		return fmt.Errorf("%w: quickbooks fails on %d records whose ids are not known, one last updated at %s",
			errUnreadable, len(f.unread), qbo.FormatTime(f.unread[0]))
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
	return k.window(ctx, from, to)
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
