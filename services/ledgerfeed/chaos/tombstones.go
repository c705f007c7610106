package chaos

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// tombstones watches what the sinks hold as deleted, and compares it with the books at
// that moment (I15): a record that is there may be under a tombstone only if a
// webhook said that it is gone and an answer of the API may not have shown it, and not
// for long.
type tombstones struct {
	plant *plant

	looking sync.Mutex // held by a look: what one read must not follow what a later one read

	mu      sync.Mutex // guards the rest
	open    map[heldBy]time.Time
	seen    int // tombstones, of records that are gone too
	ever    map[heldBy]bool
	wrong   []string
	longest time.Duration
}

// heldBy is a record at a sink.
type heldBy struct {
	sink string
	ref  sink.Ref
}

func newTombstones(p *plant) *tombstones {
	return &tombstones{plant: p, open: map[heldBy]time.Time{}, ever: map[heldBy]bool{}}
}

const tombstonePoll = 300 * time.Millisecond

// run looks at the table until ctx ends; the endpoint tells of itself.
func (t *tombstones) run(ctx context.Context) {
	for lifecycle.Sleep(ctx, tombstonePoll) == nil {
		t.look(ctx)
	}
}

// look compares the tombstones of the table with the books.
func (t *tombstones) look(ctx context.Context) {
	t.looking.Lock()
	defer t.looking.Unlock()
	rows, err := t.plant.database.tombstones(ctx)
	if err != nil {
		return // the database is away
	}
	now := time.Now()
	for ref := range rows {
		t.saw(sinkTable, ref, true, now)
	}
	t.mu.Lock()
	var over []sink.Ref
	for at := range t.open {
		if _, still := rows[at.ref]; at.sink == sinkTable && !still {
			over = append(over, at.ref)
		}
	}
	t.mu.Unlock()
	for _, ref := range over {
		t.saw(sinkTable, ref, false, now)
	}
}

// saw takes note of what a sink holds.
func (t *tombstones) saw(name string, ref sink.Ref, deleted bool, at time.Time) {
	where := heldBy{name, ref}
	alive, made := t.plant.books.alive(ref)
	t.mu.Lock()
	defer t.mu.Unlock()
	since, open := t.open[where]
	if !deleted || !alive {
		if open {
			t.endLocked(where, at.Sub(since))
		}
		if deleted {
			t.seen++
		}
		return
	}
	if open {
		return
	}
	t.open[where] = at
	if t.ever[where] {
		return
	}
	t.ever[where] = true
	if !t.plant.front.claims(ref) {
		t.wrong = append(t.wrong, fmt.Sprintf("at %s the sink %s has a tombstone of realm %s %s %s, which is there, and no webhook said that it is not",
			at.UTC().Format("15:04:05.000"), name, ref.Realm, ref.Entity, ref.ID))
	}
	if !t.plant.books.mayHide(made) && !t.plant.books.wasHidden(ref) {
		t.wrong = append(t.wrong, fmt.Sprintf("at %s the sink %s has a tombstone of realm %s %s %s, which is there and which every answer has shown since %s",
			at.UTC().Format("15:04:05.000"), name, ref.Realm, ref.Entity, ref.ID, made.UTC().Format(time.RFC3339)))
	}
}

func (t *tombstones) endLocked(where heldBy, lasted time.Duration) {
	delete(t.open, where)
	if lasted > t.longest {
		t.longest = lasted
	}
}

// tombstoneVerdict is what came of watching.
type tombstoneVerdict struct {
	tried    bool
	problems []string
	// ever is how many were wrong at some time, and longest how long one was.
	ever    int
	longest time.Duration
	open    int // are wrong now
}

func (t *tombstones) verdict(now time.Time) tombstoneVerdict {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := tombstoneVerdict{tried: t.seen+len(t.ever) > 0, problems: append([]string(nil), t.wrong...), ever: len(t.ever), longest: t.longest, open: len(t.open)}
	for _, since := range t.open {
		v.longest = max(v.longest, now.Sub(since))
	}
	return v
}

// alive reports whether the record is there, and when it was made.
func (b *books) alive(ref sink.Ref) (alive bool, made time.Time) {
	history := b.History(qbosim.Ref{Realm: ref.Realm, Entity: ref.Entity, ID: ref.ID})
	if len(history) == 0 {
		return false, made
	}
	return !history[len(history)-1].Deleted, history[0].LastUpdated
}
