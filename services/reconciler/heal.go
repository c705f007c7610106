package reconciler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// healLater returns a step that heals but for the first time: realms that are new to the
// schedule are put on it at the start.
func (r *Reconciler) healLater() func(context.Context) error {
	started := false
	return func(ctx context.Context) error {
		if !started {
			started = true
			return nil
		}
		if err := r.heal(ctx); !errors.Is(err, state.ErrHeld) {
			return err
		}
		return nil
	}
}

// recordsEvery is how often heal goes through the keys of Redis for the records of
// connections, though nothing seems to be missing: it takes a second for each million.
const recordsEvery = time.Hour

// heal makes the list of realms and the schedule whole again: Redis may evict one of their
// keys, or somebody delete it. Of the list, the schedule knows the realms; of the schedule,
// the list; of what both have lost, the records of the connections.
func (r *Reconciler) heal(ctx context.Context) error {
	lease, err := r.state.Lease(ctx, "heal", r.config.LeaseTTL)
	if errors.Is(err, state.ErrHeld) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = lease.Release(ctx) }() // it runs out by itself
	r.mu.Lock()
	records := r.now().Sub(r.recordsRead) >= recordsEvery
	r.mu.Unlock()
	if !records {
		missing, err := r.rebuild(ctx, false)
		if err != nil || missing == 0 {
			return err
		}
	}
	if _, err := r.rebuild(ctx, true); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recordsRead = r.now()
	return nil
}

// rebuild adds to the list and to the schedule what they lack of each other, and of the
// records too if asked. It returns how many realms were missing from either.
func (r *Reconciler) rebuild(ctx context.Context, records bool) (missing int, err error) {
	listed, scheduled, err := r.everyRealm(ctx)
	if err != nil {
		return 0, err
	}
	all, known := listed, make(map[string]bool, len(listed))
	for _, realm := range listed {
		known[realm] = true
	}
	add := func(realm string) {
		if !known[realm] {
			known[realm] = true
			all = append(all, realm)
		}
	}
	for realm := range scheduled {
		add(realm)
	}
	if records || len(all) == 0 {
		traces, err := r.traces(ctx)
		if err != nil {
			return 0, err
		}
		for _, realm := range traces {
			add(realm)
		}
	}
	if err := r.connections.CheckLost(ctx, all); err != nil {
		return 0, err
	}
	added, err := r.connections.Relist(ctx, all[len(listed):])
	if err != nil {
		return 0, err
	}
	if added > 0 {
		r.log.Warn("realms missing from the list; added again", telemetry.Count(added))
	}
	again, err := r.reschedule(ctx, all, scheduled)
	if again > 0 {
		r.log.Warn("realms missing from the schedule; scheduled again", telemetry.Count(again))
	}
	return added + again, err
}

// reschedule makes those live realms due that are not on the schedule.
func (r *Reconciler) reschedule(ctx context.Context, all []string, scheduled map[string]bool) (n int, err error) {
	for _, realm := range all {
		if scheduled[realm] {
			continue
		}
		conn, err := r.connections.Get(ctx, realm)
		if errors.Is(err, connection.ErrNotConnected) || err == nil && conn.State != connection.Live {
			continue // it is scheduled once it is connected
		}
		if err != nil {
			return n, err
		}
		if err := r.state.ScheduleIn(ctx, realm, jitter(r.config.StartJitter)); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// everyRealm returns the list of realms, and those on the schedule.
func (r *Reconciler) everyRealm(ctx context.Context) (listed []string, scheduled map[string]bool, err error) {
	if scheduled, err = r.state.Scheduled(ctx); err != nil {
		return nil, nil, err
	}
	listed, err = r.connections.List(ctx)
	return listed, scheduled, err
}

// traces are the realms that have a record or, if none has, cursors.
func (r *Reconciler) traces(ctx context.Context) ([]string, error) {
	realms, err := r.connections.Records(ctx)
	if err != nil || len(realms) > 0 {
		return realms, err
	}
	return r.connections.Scanned(ctx)
}

// noteLost adds to the error of a realm without a connection that it once had one.
func (r *Reconciler) noteLost(ctx context.Context, realm string, err error) error {
	if !errors.Is(err, connection.ErrNotConnected) || errors.Is(err, connection.ErrErased) {
		return err
	}
	if lost, noting := r.connections.NoteLost(ctx, realm); noting != nil || !lost {
		return errors.Join(err, noting)
	}
	return fmt.Errorf("%w: %w", connection.ErrLost, err)
}
