package reconciler

import (
	"context"
	"errors"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// errBehind: what a scan found is not delivered, and is more than it can remember.
var errBehind = errors.New("a sink accepts nothing, and more changes are pending than a scan can store")

const (
	// maxMissing is how many missing changes of an entity a scan remembers. Reading is
	// faster than delivery: beyond that it waits.
	maxMissing = 20_000
	// stalled is how long it waits while nothing is delivered, or reconciler.verify_timeout
	// if that is less. Then it goes on for the sake of the sinks that work, and the cursor
	// stays.
	stalled = time.Minute
	// keepUpEvery is how often it looks.
	keepUpEvery = 250 * time.Millisecond
)

// keepUp waits until the sinks have most of what was found so far.
func (s *scan) keepUp(ctx context.Context, f *finding) error {
	if len(f.missing) < maxMissing || f.overflow {
		return nil
	}
	began := time.Now()
	for before := len(f.missing); ; {
		if err := s.prune(ctx, f); err != nil {
			return err
		}
		n := len(f.missing)
		switch {
		case n <= maxMissing/2:
			return nil
		case n < before:
			before, began = n, time.Now()
		case time.Since(began) > min(stalled, s.r.config.VerifyTimeout):
			f.overflow = true
			f.drop()
			return nil
		}
		if err := lifecycle.Sleep(ctx, min(keepUpEvery, s.r.config.VerifyEvery)); err != nil {
			return err
		}
	}
}

// prune drops what has been delivered since it was published.
func (s *scan) prune(ctx context.Context, f *finding) error {
	lacks, err := s.r.lacks(ctx, s.realm, s.sinks, f.missing)
	if err != nil {
		return err
	}
	f.missing = pick(f.missing, lacks)
	f.kept = min(len(f.missing), maxMissing/2)
	published := make(map[state.Ref]bool, len(f.missing))
	for _, m := range f.missing {
		if f.published[m.Ref] {
			published[m.Ref] = true
		}
	}
	f.published = published
	return nil
}

// drop forgets what is more than maxMissing, but when the first of it was.
func (f *finding) drop() {
	if len(f.missing) <= maxMissing {
		return
	}
	for _, m := range f.missing[maxMissing:] {
		if at := qbo.VersionTime(m.Version); f.dropped.IsZero() || at.Before(f.dropped) {
			f.dropped = at
		}
		delete(f.published, m.Ref)
	}
	f.missing = f.missing[:maxMissing]
}
