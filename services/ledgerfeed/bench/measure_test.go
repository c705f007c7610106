package bench_test

import (
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/load"
)

const (
	connections = 256
	p99Bound    = 50 * time.Millisecond
	idleRate    = 50 // requests a second
	settle      = 3 * time.Second
)

// run loads c for d and counts what it answered and what was stored of that. A
// request that was not answered 200 may be stored all the same: where some
// failed, only a loss of more than those would show.
func (p *profile) run(c *contender, rate float64, conns int, d time.Duration) load.Report {
	p.t.Helper()
	o := options(c.says[0])
	o.Rate, o.Connections, o.Duration, o.Seed = rate, conns, d, 1
	began := time.Now()
	r, err := load.Run(interrupted, o)
	if interrupted.Err() != nil {
		p.t.Fatal("interrupted")
	}
	require.NoError(p.t, err, c.name)
	if rate == 0 {
		// To the last answer: what connections were waiting for at the end of a
		// short window is much of what they do.
		r.RPS = float64(r.Answered) / time.Since(began).Seconds()
	}
	stored := c.take()
	c.answered += r.Answered
	c.failed += r.Failed
	c.late += r.Late
	c.stored += stored
	c.lost += max(0, r.Answered*c.each-stored)
	return r
}

// compared is run, and what it costs the contender's process is counted.
func (p *profile) compared(c *contender, rate float64) load.Report {
	p.t.Helper()
	before := c.used()
	r := p.run(c, rate, connections, *duration)
	c.cpu += c.used() - before
	c.cpuFor += r.Answered
	return r
}

// warm fills caches and pools, and shows that the contender works.
func (p *profile) warm() {
	for _, c := range p.contenders {
		for try := 0; c.answered == 0 && try < 100; try++ { // a busy machine may not even send in a short window
			p.run(c, 0, 32, min(*duration, 2*time.Second))
		}
		require.Positive(p.t, c.answered, "%s answers nothing", c.name)
		p.step(costWarm, "%s: %s is warm", p.name, c.name)
	}
}

// round is one window of each kind for each contender; the next round has
// another order, and others before and after each.
func (p *profile) round(round int) {
	for _, c := range turn(p.contenders, round) {
		if p.name == synced {
			r := p.compared(c, 0)
			c.closed = append(c.closed, r)
			p.step(costClosed, "%s round %d/%d: %s answers %.0f/s on %d connections, p50 %s p99 %s",
				p.name, round+1, *rounds, c.name, r.RPS, connections, r.P50, r.P99)
		}
		r, ok := p.highest(c)
		if ok {
			c.open = append(c.open, r)
		}
		p.step(costSearch, "%s round %d/%d: %s answers %.0f/s that come when they are due, p50 %s p99 %s%s",
			p.name, round+1, *rounds, c.name, r.RPS, r.P50, r.P99, map[bool]string{false: ": too late, the round does not count"}[ok])
	}
	for _, c := range turn(p.contenders, round) {
		time.Sleep(min(*duration/4, settle)) // what the window before has removed is being removed still
		r := p.run(c, idleRate, 1, *duration/2)
		c.idle = append(c.idle, r)
		p.step(costIdle, "%s round %d/%d: %s idle, p50 %s p99 %s", p.name, round+1, *rounds, c.name, r.P50, r.P99)
	}
}

func turn[T any](all []T, by int) (turned []T) {
	for i := range all {
		turned = append(turned, all[(i+by)%len(all)])
	}
	if by%2 == 1 {
		slices.Reverse(turned)
	}
	return turned
}

// highest is the highest rate of an open loop at which 99 of 100 answers come
// within 50 ms: in the first round looked for in short windows, later where the round
// before ended, and confirmed in full windows, in small steps up from there if it
// holds and down if not. If none is confirmed it returns the last that was tried, and
// false.
func (p *profile) highest(c *contender) (r load.Report, ok bool) {
	const step, most = 0.93, 9
	rate, known := 0.0, len(c.open) > 0
	if known {
		rate = c.open[len(c.open)-1].RPS
	} else {
		rate = p.search(c)
	}
	try := func() load.Report { return p.run(c, rate, connections, *duration) }
	r = try()
	for i := 0; known && held(r) && i < most; i++ {
		rate /= step
		higher := try()
		if !held(higher) {
			break
		}
		r = higher
	}
	for i := 0; !held(r) && !smoke() && i < most; i++ {
		rate *= step
		r = try()
	}
	return r, held(r)
}

// search halves what is between nothing and what a closed loop can do.
func (p *profile) search(c *contender) float64 {
	short, probes := max(*duration/5, 100*time.Millisecond), 5
	if smoke() {
		probes = 1
	}
	capacity := p.run(c, 0, connections, short).RPS
	c.capacity = append(c.capacity, capacity)
	low, high, rate := 0.0, 1.2*capacity, 0.9*capacity
	for range probes {
		if p.bears(c, rate, short) {
			low = rate
		} else {
			high = rate
		}
		rate = (low + high) / 2
	}
	return max(low, capacity/10)
}

// bears reports whether a rate held, in one of two windows: whoever else had the
// machine or its disk in the first would cost the contender half of the search.
func (p *profile) bears(c *contender, rate float64, d time.Duration) bool {
	for range 2 {
		if held(p.run(c, rate, connections, d)) {
			return true
		}
	}
	return false
}

func held(r load.Report) bool { return r.P99 < p99Bound && r.Failed == 0 && r.Offered > 0 }

// together measures the latencies of all at the same rate, four fifths of what
// the slowest can bear: at rates of their own they say little beside each other.
// Where the broker syncs always, 256 connections are the same for all.
func (p *profile) together() {
	if p.name == synced {
		return
	}
	for round := range *rounds {
		for _, c := range turn(p.contenders, round) {
			r := p.compared(c, p.sameRate())
			c.same = append(c.same, r)
			p.step(costTogether, "%s round %d/%d: %s at %.0f/s, p50 %s p99 %s p99.9 %s", p.name, round+1, *rounds, c.name, p.sameRate(), r.P50, r.P99, r.P999)
		}
	}
}

func (p *profile) sameRate() (rate float64) {
	for _, c := range p.contenders {
		own := 0.8 * medianOf(c.open, rps)
		if len(c.open) == 0 {
			own = 0.4 * median(c.capacity)
		}
		if rate == 0 || own < rate {
			rate = own
		}
	}
	return max(rate, idleRate)
}
