package reconciler

import (
	"context"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// keepEvery is how many pages of a load are read between two notes of how far it is.
const keepEvery = 5

// keepLoaded notes how far a load has come: to the last record read, or to the first
// that is not delivered yet, if that is earlier. What lies before is delivered, so
// that after a crash the load may go on from there, and the cursor it ends with says
// the truth all the same (I4).
func (s *scan) keepLoaded(ctx context.Context, f *finding, items []qbo.Entity) error {
	if !f.load || f.plain || len(items) == 0 {
		return nil
	}
	if f.pages++; f.pages%keepEvery != 0 {
		return nil
	}
	if err := s.prune(ctx, f); err != nil {
		return err
	}
	at := items[len(items)-1].LastUpdated
	for _, m := range f.missing {
		if then := qbo.VersionTime(m.Version); then.Before(at) {
			at = then
		}
	}
	for _, second := range f.unread {
		if second.Before(at) {
			at = second // a record that could not be read must be met again
		}
	}
	if f.overflow && f.dropped.Before(at) {
		at = f.dropped
	}
	// Never back: a sweep reads what lies before.
	if at = at.Truncate(time.Second); !at.After(f.loaded) || at.Unix() <= 0 {
		return nil
	}
	f.loaded = at
	return s.r.state.KeepLoaded(ctx, s.realm, s.generation, f.entity, at)
}

// expect asks how many records a load will see, once it is known that one page does
// not hold them, and only if somebody watches.
func (s *scan) expect(ctx context.Context, f *finding, page int, from time.Time) error {
	s.mu.Lock()
	asked := f.expected > 0
	s.mu.Unlock()
	if asked || s.progress == nil || !f.load || page < maxRows || s.uncounted(f.entity) {
		return nil
	}
	n, _, err := s.count(ctx, statement{entity: f.entity, list: f.list, from: from})
	if countRefused(ctx, err) {
		s.keepUncounted(ctx, f.entity, err) // a page was read
		return nil
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f.expected = n
	return nil
}

// ended notes that nothing more is asked about the findings.
func (s *scan) ended(fs ...*finding) {
	s.mu.Lock()
	for _, f := range fs {
		f.done = true
	}
	s.mu.Unlock()
	s.tell()
}

// tell tells whoever watches how far the scan is.
func (s *scan) tell() {
	if s.progress == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress(s.progressLocked())
}

func (s *scan) progressLocked() state.JobProgress {
	p := state.JobProgress{
		Entities: len(s.findings), Records: s.items, Missing: s.missingCDC + s.missingQuery, Calls: s.calls, Incomplete: s.incomplete,
	}
	for name, of := range s.refused {
		if known(of.query) {
			p.Refused = append(p.Refused, name)
		}
	}
	slices.Sort(p.Refused)
	for _, f := range s.findings {
		if f.done {
			p.EntitiesDone++
		}
		if f.load && !s.loaded[f.entity].IsZero() {
			p.Resumed = true
		}
		if f.done {
			p.Expected += f.items
		} else {
			p.Expected += max(f.items, f.expected)
		}
	}
	return p
}
