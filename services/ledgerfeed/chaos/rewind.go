package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
)

// rewind is a person's `ledgerfeed cursor rewind`: a scan must read again from there.
type rewind struct {
	at time.Time
	to time.Time // by Intuit's clock
}

// rewindBy is longer than a run's load lasts by Intuit's clock: no other scan reads from so
// early.
const rewindBy = 24 * time.Hour

// rewindSteps are those after which the scan under way moves cursors.
var rewindSteps = []sabotage.Point{sabotage.Scanned, sabotage.ScanSaved, sabotage.ScanPublished, sabotage.ScanConcluded, sabotage.ScanVerified}

// rewindCursors moves the cursors of all companies back while a scan stands between what
// it has read and its moving of them.
func rewindCursors(ctx context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	one, at := r.plant.services["reconciler"][0], choose(rng, rewindSteps)
	stands, err := one.stopAt(ctx, at)
	if err != nil {
		return nil, one.name, err
	}
	r.cursors.watch(false)
	defer r.cursors.watch(true)
	w := rewind{at: time.Now(), to: r.plant.books.now().Add(-rewindBy)}
	err = r.rewindAll(ctx, w.to)
	if stands {
		_ = one.resume() // it may have been ended meanwhile
	}
	err = errors.Join(err, one.steer(""))
	if err != nil {
		return nil, one.name, err
	}
	r.mu.Lock()
	r.rewinds = append(r.rewinds, w)
	r.mu.Unlock()
	return nothing, fmt.Sprintf("%s at %s: %t", one.name, at, stands), nil
}

// lostRewinds are the rewinds after which no scan has asked CDC from so early (I4). Where
// cursors were lost meanwhile, everything is loaded instead.
func (r *run) lostRewinds() (wrong []string) {
	if r.effects.forgets || r.made["redis-keys"] {
		return nil
	}
	for _, w := range r.rewinds {
		for _, realm := range r.plant.realms {
			if !r.plant.books.askedFrom(realm, w) {
				wrong = append(wrong, fmt.Sprintf("the cursors of realm %s were moved back to %s at %s, and no scan has read from there since",
					realm, w.to.UTC().Format(time.RFC3339), w.at.UTC().Format("15:04:05.000")))
			}
		}
	}
	return wrong
}

// awaitRewinds waits for the scans that rewinds have asked for, which may find nothing.
func (r *run) awaitRewinds(ctx context.Context) {
	within, cancel := context.WithTimeout(ctx, rewindWait)
	defer cancel()
	_ = until(within, func(context.Context) error { // the judge says what is left
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.lostRewinds()) > 0 {
			return errors.New("not read yet")
		}
		return nil
	})
}

// rewindWait bounds how long a company that is due may wait for its scan.
const rewindWait = time.Minute

// cdcCall is a call of ChangeDataCapture.
type cdcCall struct{ at, since time.Time }

func (b *books) noteCDC(realm string, u *url.URL) {
	if !strings.HasSuffix(u.Path, "/cdc") {
		return
	}
	since, err := time.Parse(time.RFC3339, u.Query().Get("changedSince"))
	if err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked[realm] = append(b.asked[realm], cdcCall{time.Now(), since})
}

// askedFrom reports whether CDC was asked for all that the rewind is about.
func (b *books) askedFrom(realm string, w rewind) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.asked[realm], func(c cdcCall) bool { return c.at.After(w.at) && !c.since.After(w.to) })
}
