package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
)

// scanFaults are what happens to one replica at a moment that matters: it stands still
// between two steps of a scan, or its clock is wrong for one moment.
func scanFaults() []fault {
	return []fault{
		{name: "stop-scan", group: "reconciler", least: 5 * time.Second, most: 30 * time.Second, weight: 3, effects: effects{repeats: true}, steers: true, begin: stopScan},
		{name: "cursor-rewind", group: "reconciler", least: reachWait, most: reachWait + time.Second, weight: 2, effects: effects{repeats: true}, steers: true, begin: rewindCursors},
		{name: "clock-jump", group: "clock", least: 400 * time.Millisecond, most: 1500 * time.Millisecond, weight: 2, steers: true, begin: jumpClock},
	}
}

// scanSteps are the points between the steps of a scan.
var scanSteps = []sabotage.Point{
	sabotage.ScanBegun, sabotage.Scanned, sabotage.ScanSaved, sabotage.ScanPublished, sabotage.ScanConcluded, sabotage.ScanVerified, sabotage.CursorMoved,
}

// reachWait bounds how long a scan may take to come to the point.
const reachWait = 8 * time.Second

// stopScan stops a reconciler by SIGSTOP exactly between two steps of a scan, for longer
// than its leases last: another one scans its companies meanwhile.
func stopScan(ctx context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	one, at := r.plant.services["reconciler"][0], choose(rng, scanSteps)
	stands, err := one.stopAt(ctx, at)
	if err != nil || !stands {
		return nothing, fmt.Sprintf("%s did not come to %s", one.name, at), err
	}
	return func(context.Context) error {
		_ = one.resume() // it may have been ended meanwhile
		return one.steer("")
	}, fmt.Sprintf("%s at %s", one.name, at), nil
}

// stopAt stops a replica at a point, and reports whether it has come there.
func (r *replica) stopAt(ctx context.Context, at sabotage.Point) (stands bool, err error) {
	r.stopped() // of an earlier time
	if err := r.steer("stop " + string(at) + "\n"); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, reachWait)
	defer cancel()
	for !r.stopped() {
		if lifecycle.Sleep(ctx, 20*time.Millisecond) != nil {
			err := r.steer("")
			if !r.stopped() {
				return false, err
			}
			break
		}
	}
	r.stands()
	return true, nil
}

// jumpClock sets the clock of a replica ahead for one moment.
func jumpClock(_ context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	one := r.plant.services[choose(rng, []string{"processor", "reconciler", "reconciler"})][0]
	by := choose(rng, []time.Duration{365 * 24 * time.Hour, 365 * 24 * time.Hour, 48 * time.Hour})
	err := one.steer("clock " + by.String() + "\n")
	return func(context.Context) error { return one.steer("") }, fmt.Sprintf("%s by %s", one.name, by), err
}
