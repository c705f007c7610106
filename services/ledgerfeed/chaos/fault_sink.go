package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// sinkFaults are what the endpoint does.
func sinkFaults() []fault {
	return []fault{
		{name: "sink-500", group: "endpoint", least: time.Second, most: 6 * time.Second, weight: 2, begin: inMood(failing)},
		{name: "sink-timeout", group: "endpoint", least: 2 * time.Second, most: 7 * time.Second, weight: 2, effects: effects{repeats: true}, begin: inMood(forgetful)},
		{name: "sink-410", group: "endpoint", least: time.Second, most: 3 * time.Second, weight: 1, effects: effects{withholds: true}, begin: leave},
		{name: "table-locked", group: "postgres", least: 3 * time.Second, most: 8 * time.Second, weight: 2, effects: effects{repeats: true}, begin: lockTable},
		{name: "sink-422", group: "endpoint", least: 500 * time.Millisecond, most: 3 * time.Second, weight: 2, effects: effects{repeats: true}, begin: refuse},
	}
}

func inMood(m mood) beginning {
	return func(_ context.Context, r *run, _ *rand.Rand) (func(context.Context) error, string, error) {
		r.plant.endpoint.set(m)
		return func(context.Context) error { r.plant.endpoint.set(willing); return nil }, "", nil
	}
}

// leave is an endpoint that says it is gone: it is left alone for an hour, unless
// the processors are started again, as whoever brings it back is told to do.
func leave(_ context.Context, r *run, _ *rand.Rand) (func(context.Context) error, string, error) {
	r.plant.endpoint.set(leaving)
	return func(context.Context) error {
		r.plant.endpoint.set(willing)
		for _, one := range r.plant.services["processor"] {
			one.down(syscall.SIGTERM, drainWait)
			one.up()
		}
		return nil
	}, "", nil
}

// lockTable is somebody who changes the table for some seconds: it can be read, and no
// write gets through.
func lockTable(ctx context.Context, r *run, _ *rand.Rand) (func(context.Context) error, string, error) {
	release, err := r.plant.database.lock(ctx)
	return release, "", err
}

// refuse is an endpoint that takes no change for good: each becomes a dead letter. When
// it is mended a person has half of them delivered again, and loses the others by
// mistake.
func refuse(_ context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	r.plant.endpoint.set(refusing)
	seed := rng.Uint64()
	return func(ctx context.Context) error {
		r.plant.endpoint.set(willing)
		return r.endLetters(ctx, rand.New(rand.NewPCG(seed, 0x1e77e4)))
	}, "", nil
}

// endLetters requeues the dead letters of what the endpoint refused; with an rng it
// purges every second one instead.
func (r *run) endLetters(ctx context.Context, rng *rand.Rand) error {
	var letters []stream.DeadLetter
	refused := stream.DeadFilter{Reasons: []stream.Reason{stream.ReasonSinkRefused}}
	err := until(ctx, func(ctx context.Context) error {
		letters = nil
		return r.plant.conn.EachDead(ctx, refused, func(d stream.DeadLetter) error {
			letters = append(letters, d)
			return nil
		})
	})
	if err != nil {
		return err
	}
	purged := 0
	for _, d := range letters {
		purge := rng != nil && rng.IntN(2) == 0
		r.mu.Lock()
		for ref := range refsOf(d) {
			r.ended[ref] = true
			if purge {
				r.purged[ref] = true
			}
		}
		r.mu.Unlock()
		end := func(ctx context.Context) error { _, err := r.plant.conn.Requeue(ctx, d); return err }
		if purge {
			purged++
			end = func(ctx context.Context) error { return r.plant.conn.DeleteDead(ctx, d.Seq) }
		}
		if err := until(ctx, end); err != nil {
			return err
		}
	}
	r.note("letters", "", fmt.Sprintf("%d of the endpoint: %d purged, the others requeued", len(letters), purged))
	return nil
}

// refsOf are the records that a dead letter tells of.
func refsOf(d stream.DeadLetter) map[sink.Ref]bool {
	refs := map[sink.Ref]bool{}
	for _, e := range d.Envelope.GetEvents() {
		refs[sink.Ref{Realm: d.RealmID, Entity: e.GetEntity(), ID: e.GetEntityId()}] = true
		if e.GetMergedId() != "" {
			refs[sink.Ref{Realm: d.RealmID, Entity: e.GetEntity(), ID: e.GetMergedId()}] = true
		}
	}
	return refs
}
