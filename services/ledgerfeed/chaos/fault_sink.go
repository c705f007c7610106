package chaos

import (
	"context"
	"math/rand/v2"
	"syscall"
	"time"
)

// sinkFaults are what the endpoint does.
func sinkFaults() []fault {
	return []fault{
		{name: "sink-500", group: "endpoint", least: time.Second, most: 6 * time.Second, weight: 2, begin: inMood(failing)},
		{name: "sink-timeout", group: "endpoint", least: 2 * time.Second, most: 7 * time.Second, weight: 2, effects: effects{repeats: true}, begin: inMood(forgetful)},
		{name: "sink-410", group: "endpoint", least: time.Second, most: 3 * time.Second, weight: 1, effects: effects{withholds: true}, begin: leave},
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
