package load

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// wakeApart spares the cost of a wake for each request where requests are due
// more often than that.
const wakeApart = 500 * time.Microsecond

// pacer numbers the requests and says when each is due.
//
// Open loop, the workers stand in line in the order in which they became free;
// the first has the turn and waits until its request is due. Only one moment is
// waited for at a time, so that thousands of idle workers cost nothing.
type pacer struct {
	began, end time.Time
	rate       float64
	gaps       *rand.Rand // nil: all are the same
	alarm      *alarm
	turn       chan struct{} // holds the turn while nobody has it; guards what follows
	n          uint64
	woke       time.Time
	random     float64 // seconds from began to request n

	taken atomic.Uint64 // closed loop
}

// slot is one request. early says that it was not due yet when it was taken:
// the taker has the turn until wait returns.
type slot struct {
	n     uint64
	due   time.Time
	early bool
}

// newPacer must be closed. The waits end with ctx.
func newPacer(ctx context.Context, o Options, began, end time.Time) (*pacer, error) {
	a, err := newAlarm(ctx)
	if err != nil {
		return nil, err
	}
	p := &pacer{began: began, end: end, rate: o.Rate, alarm: a, turn: make(chan struct{}, 1)}
	if o.Poisson {
		p.gaps = rand.New(rand.NewPCG(o.Seed, uint64(o.RunID)))
	}
	p.turn <- struct{}{}
	return p, nil
}

func (p *pacer) close() { p.alarm.close() }

// next returns the next request; false if there is none before the end.
func (p *pacer) next(ctx context.Context) (slot, bool) {
	if p.rate == 0 {
		s := slot{n: p.taken.Add(1) - 1, due: time.Now()}
		return s, s.due.Before(p.end) && ctx.Err() == nil
	}
	<-p.turn
	s := slot{n: p.n, due: p.began.Add(p.offset())}
	if !s.due.Before(p.end) || ctx.Err() != nil {
		p.turn <- struct{}{}
		return slot{}, false
	}
	p.n++
	if p.gaps != nil {
		p.random += p.gaps.ExpFloat64() / p.rate
	}
	if s.early = time.Now().Before(s.due); !s.early {
		p.turn <- struct{}{}
	}
	return s, true
}

// offset is computed anew for each, for a sum of gaps would drift.
func (p *pacer) offset() time.Duration {
	seconds := float64(p.n) / p.rate
	if p.gaps != nil {
		seconds = p.random
	}
	return time.Duration(seconds * float64(time.Second))
}

// wait returns when s is due, or false when ctx ended before.
func (p *pacer) wait(ctx context.Context, s slot) bool {
	if !s.early {
		return true
	}
	p.alarm.sleepUntil(later(s.due, p.woke.Add(wakeApart)))
	p.woke = time.Now()
	p.turn <- struct{}{}
	return ctx.Err() == nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
