package dev

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

// otherEvery is which change is one of the entities that are written seldom.
const otherEvery = 20

// load changes the simulated books at a rate. Change k is due at k/rate from
// the start, whatever the ones before it took, so a run of a given length
// makes a given number of changes.
type load struct {
	sim    *qbosim.Sim
	realms []string
	rate   float64
	pick   *rand.Rand // which realm is next
	made   atomic.Int64
}

func newLoad(sim *qbosim.Sim, realms []string, rate float64, seed uint64) *load {
	return &load{sim: sim, realms: realms, rate: rate, pick: rand.New(rand.NewPCG(seed, 0))}
}

// Run makes changes for d, or until ctx ends if d is 0.
func (l *load) Run(ctx context.Context, d time.Duration) error {
	l.sim.BeginLoad()
	if l.rate == 0 {
		return sleep(ctx, d)
	}
	start := time.Now()
	due := time.NewTimer(0)
	defer due.Stop()
	for k := 0; ; k++ {
		at := time.Duration(float64(k) / l.rate * float64(time.Second))
		if d > 0 && at >= d {
			return sleep(ctx, time.Until(start.Add(d)))
		}
		due.Reset(time.Until(start.Add(at)))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-due.C:
		}
		realm := l.realms[l.pick.IntN(len(l.realms))]
		step := l.sim.Step
		if k%otherEvery == otherEvery-1 {
			step = l.sim.StepOther
		}
		if _, err := step(realm); err != nil {
			return fmt.Errorf("change the simulated records of realm %s: %w", realm, err)
		}
		l.made.Add(1)
	}
}

// sleep waits for d, or for ctx alone if d is not positive.
func sleep(ctx context.Context, d time.Duration) error {
	if d == 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	return lifecycle.Sleep(ctx, d)
}
