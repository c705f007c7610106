package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

// load changes the books at a steady rate.
type load struct {
	books   *books
	realms  []string
	rate    float64
	journal *journal

	mu     sync.Mutex // guards the rest
	rng    *rand.Rand
	made   int
	latest []qbosim.Ref // the records changed last
}

// again is the share of changes that are followed by another one of the same
// record at once: mostly within the same second.
const again = 0.2

// run makes changes for d.
func (l *load) run(ctx context.Context, d time.Duration) error {
	begun := time.Now()
	due := time.NewTimer(0)
	defer due.Stop()
	for k := 0; ; k++ {
		at := time.Duration(float64(k) / l.rate * float64(time.Second))
		if at >= d {
			return nil
		}
		due.Reset(time.Until(begun.Add(at)))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-due.C:
		}
		if err := l.next(); err != nil {
			return err
		}
	}
}

// next is one change: mostly a drawn one, else another one of a record that was
// changed a moment ago.
func (l *load) next() error {
	l.mu.Lock()
	realm := choose(l.rng, l.realms)
	twice := l.rng.Float64() < again
	hot := l.rng.Float64() < again
	l.mu.Unlock()
	if hot {
		l.mu.Lock()
		ref, ok := l.recentLocked(l.rng)
		l.mu.Unlock()
		if ok && l.update(ref) == nil {
			return nil
		}
	}
	if err := l.step(realm); err != nil {
		return err
	}
	if !twice {
		return nil
	}
	l.mu.Lock()
	ref := l.latest[len(l.latest)-1]
	l.mu.Unlock()
	if err := l.update(ref); err != nil && !errors.Is(err, qbosim.ErrNotFound) {
		return err
	}
	return nil
}

func (l *load) step(realm string) error {
	ref, err := l.books.Step(realm)
	if err == nil {
		l.changed(ref)
	}
	return err
}

func (l *load) create(realm, entity string) error {
	ref, err := l.books.Create(realm, entity, nil)
	if err == nil {
		l.changed(ref)
	}
	return err
}

func (l *load) update(ref qbosim.Ref) error {
	err := l.books.Update(ref, nil)
	if err == nil {
		l.changed(ref)
	}
	return err
}

const remembered = 60

func (l *load) changed(ref qbosim.Ref) {
	l.journal.write(struct {
		At time.Time  `json:"at"`
		Of qbosim.Ref `json:"of"`
	}{time.Now().UTC(), ref})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made++
	if l.latest = append(l.latest, ref); len(l.latest) > remembered {
		l.latest = l.latest[1:]
	}
}

// recent is a record that was changed a moment ago.
func (l *load) recent(rng *rand.Rand) (qbosim.Ref, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.recentLocked(rng)
}

func (l *load) recentLocked(rng *rand.Rand) (qbosim.Ref, bool) {
	if len(l.latest) == 0 {
		return qbosim.Ref{}, false
	}
	return choose(rng, l.latest), true
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.made
}
