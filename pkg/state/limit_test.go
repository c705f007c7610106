package state_test

import (
	"container/heap"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/faultproxy"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

var _ qbo.Limiter = (*state.Limiter)(nil)

// world runs callers of a realm against the script in a time of its own, so
// that minutes take no minutes.
type world struct {
	t        *testing.T
	redis    *miniredis.Miniredis
	limiters []*state.Limiter // one a replica
	config   state.LimitConfig
	rnd      *rand.Rand
	now      time.Time
	events   eventHeap
	calls    []*call
}

// call is one call to Intuit: asked, granted, over.
type call struct {
	id       string
	priority qbo.Priority
	lasts    time.Duration
	crashes  bool // never released: counts until Hold is over
	asked    time.Time
	granted  time.Time
	over     time.Time
	done     func()
}

func newWorld(t *testing.T, seed uint64, c state.LimitConfig, replicas int) *world {
	t.Helper()
	r := miniredis.RunT(t)
	r.ClockTTL(true)
	w := &world{t: t, redis: r, config: c, rnd: rand.New(rand.NewPCG(seed, 0)), now: noon}
	r.SetTime(w.now)
	for range replicas {
		w.limiters = append(w.limiters, open(t, at("redis://"+r.Addr())).Limiter(c))
	}
	return w
}

// ask makes a call ask for its turn, and again when it was told to, until it is
// granted.
func (w *world) ask(c *call) {
	c.id = fmt.Sprint("call ", len(w.calls))
	c.asked = w.now
	w.calls = append(w.calls, c)
	limiter := w.limiters[w.rnd.IntN(len(w.limiters))]
	var try func()
	try = func() {
		wait, err := limiter.Try(w.t.Context(), "9", c.priority, c.id)
		require.NoError(w.t, err)
		if wait > 0 {
			w.after(wait+time.Duration(w.rnd.Int64N(int64(min(wait/10, 20*time.Millisecond))+1)), try)
			return
		}
		c.granted = w.now
		if c.crashes {
			c.over = w.now.Add(w.config.Hold)
		} else {
			c.over = w.now.Add(c.lasts)
			w.after(c.lasts, func() { limiter.Forget(w.t.Context(), "9", c.id) })
		}
		if c.done != nil {
			w.after(c.lasts, c.done)
		}
	}
	try()
}

// loop is a caller that makes one call after the other, each after a pause.
func (w *world) loop(until time.Time, p qbo.Priority, lasts, pause func() time.Duration) {
	var next func()
	next = func() {
		if w.now.Before(until) {
			w.ask(&call{priority: p, lasts: lasts(), done: func() { w.after(pause(), next) }})
		}
	}
	w.after(pause(), next)
}

func (w *world) after(d time.Duration, do func()) {
	heap.Push(&w.events, event{at: w.now.Add(d), n: len(w.calls), do: do})
}

func (w *world) run(until time.Time) {
	for len(w.events) > 0 && !w.events[0].at.After(until) {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		w.redis.SetTime(w.now)
		e.do()
	}
	w.now = until
	w.redis.SetTime(w.now)
}

func (w *world) between(lo, hi time.Duration) func() time.Duration {
	return func() time.Duration { return lo + time.Duration(w.rnd.Int64N(int64(hi-lo)+1)) }
}

// granted are the times at which calls started, in order.
func (w *world) granted(p ...qbo.Priority) []time.Time {
	var times []time.Time
	for _, c := range w.calls {
		if !c.granted.IsZero() && (len(p) == 0 || slices.Contains(p, c.priority)) {
			times = append(times, c.granted)
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	return times
}

// most is the largest number of times in any window of that length.
func most(times []time.Time, window time.Duration) int {
	n := 0
	for i, j := 0, 0; j < len(times); j++ {
		for times[j].Sub(times[i]) >= window {
			i++
		}
		n = max(n, j-i+1)
	}
	return n
}

// mostAtOnce is the largest number of calls under way, dead ones included.
func (w *world) mostAtOnce() int {
	type edge struct {
		at time.Time
		by int
	}
	var edges []edge
	for _, c := range w.calls {
		if !c.granted.IsZero() {
			edges = append(edges, edge{c.granted, 1}, edge{c.over, -1})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int {
		if d := a.at.Compare(b.at); d != 0 {
			return d
		}
		return a.by - b.by
	})
	n, top := 0, 0
	for _, e := range edges {
		n += e.by
		top = max(top, n)
	}
	return top
}

type event struct {
	at time.Time
	n  int
	do func()
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at.Before(h[j].at) || h[i].at.Equal(h[j].at) && h[i].n < h[j].n
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

// The counting test: three replicas ask for all they can get, in bursts and
// steadily, some calls hang and some processes die with their calls under way.
func TestLimiter_NeverMoreThanAllowed(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			c := state.DefaultLimits()
			w := newWorld(t, seed, c, 3)
			end := noon.Add(100 * time.Second)
			for i := range 12 {
				w.loop(end, qbo.Priority(i%3/2), w.between(50*time.Millisecond, 900*time.Millisecond), w.between(0, time.Duration(seed)*time.Second))
			}
			for range 6 {
				w.after(w.between(0, end.Sub(noon))(), func() { w.ask(&call{crashes: true, lasts: time.Second}) })
			}
			w.run(end)

			times := w.granted()
			require.LessOrEqual(t, most(times, time.Minute), c.PerMinute+c.Burst)
			require.LessOrEqual(t, most(times, time.Second), c.PerSecond)
			require.LessOrEqual(t, w.mostAtOnce(), c.Concurrency)
			// Such a test holds for a limiter that grants nothing, too.
			require.Greater(t, len(times), 400)
			require.Equal(t, c.Concurrency, w.mostAtOnce())
		})
	}
}

func TestLimiter_UsesTheWholeRate(t *testing.T) {
	t.Parallel()
	for p, want := range map[qbo.Priority]int{qbo.Live: 440, qbo.Backfill: 410} {
		t.Run(fmt.Sprint("priority ", p), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, state.DefaultLimits(), 2)
			end := noon.Add(time.Minute)
			for range 6 {
				w.loop(end, p, w.between(100*time.Millisecond, 300*time.Millisecond), w.between(0, 0))
			}
			w.run(end)
			require.Greater(t, len(w.granted()), want, "of 450")
		})
	}
}

// A bound of bursts alone: no per-second limit hides what the rate does.
func TestLimiter_BurstThenTheRate(t *testing.T) {
	t.Parallel()
	c := state.LimitConfig{PerMinute: 600, Burst: 5, Concurrency: 100, Hold: time.Minute}
	w := newWorld(t, 1, c, 1)
	for range 50 {
		w.ask(&call{lasts: time.Second})
	}
	require.Len(t, w.granted(), 5, "at once")
	w.run(noon.Add(time.Second))
	require.InDelta(t, 5+10, len(w.granted()), 1, "one each 100 ms")
	w.run(noon.Add(time.Minute))
	require.Len(t, w.granted(), 50, "each in the end")
}

func TestLimiter_LiveCallsGoFirst(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed, state.DefaultLimits(), 2)
			end := noon.Add(40 * time.Second)
			for range 8 {
				w.loop(end, qbo.Backfill, w.between(100*time.Millisecond, 600*time.Millisecond), w.between(0, 0))
			}
			w.loop(end, qbo.Live, w.between(100*time.Millisecond, 600*time.Millisecond), w.between(0, time.Second))
			w.run(end)
			var worst time.Duration
			live := 0
			for _, c := range w.calls {
				if c.priority == qbo.Live && !c.granted.IsZero() {
					worst = max(worst, c.granted.Sub(c.asked))
					live++
				}
			}
			require.Greater(t, live, 20)
			require.Less(t, worst, 300*time.Millisecond)
			require.Greater(t, len(w.granted(qbo.Backfill)), 150, "the rest is theirs")
		})
	}
}

func TestLimiter_WaitingLiveCallStopsBackfills(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, state.DefaultLimits(), 1)
	end := noon.Add(20 * time.Second)
	for range 20 { // more than the rate allows
		w.loop(end, qbo.Live, w.between(500*time.Millisecond, 500*time.Millisecond), w.between(0, 0))
	}
	w.run(noon.Add(10 * time.Second))
	before := len(w.calls)
	w.ask(&call{priority: qbo.Backfill, lasts: time.Second})
	w.run(end)
	require.True(t, w.calls[before].granted.IsZero())
	w.run(end.Add(20 * time.Second))
	require.False(t, w.calls[before].granted.IsZero(), "when they are through")
}

func TestLimiter_LiveCallsGoInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, state.LimitConfig{PerMinute: 600, Burst: 1, Concurrency: 100}, 2)
	const n = 30
	for i := range n {
		w.after(time.Duration(i)*time.Millisecond, func() { w.ask(&call{lasts: time.Millisecond}) })
	}
	w.run(noon.Add(time.Minute))
	calls := slices.SortedFunc(slices.Values(w.calls), func(a, b *call) int { return a.granted.Compare(b.granted) })
	for i, c := range calls {
		require.InDelta(t, i, slices.Index(w.calls, c), 2, "the one granted as number %d", i)
	}
	require.InDelta(t, (n-1)*100*time.Millisecond, calls[n-1].granted.Sub(noon), float64(300*time.Millisecond))
}

func TestLimiter_SlotOfADeadProcessRunsOut(t *testing.T) {
	t.Parallel()
	c := state.LimitConfig{PerMinute: 60000, Concurrency: 2, Hold: 10 * time.Second}
	w := newWorld(t, 1, c, 1)
	w.ask(&call{crashes: true})
	w.loop(noon.Add(time.Minute), qbo.Live, w.between(100*time.Millisecond, 100*time.Millisecond), w.between(0, 0))
	w.run(noon.Add(9 * time.Second))
	late := []*call{{lasts: time.Minute}, {lasts: time.Minute}}
	w.ask(late[0])
	w.run(noon.Add(9900 * time.Millisecond))
	w.ask(late[1])
	w.run(noon.Add(9990 * time.Millisecond))
	require.True(t, late[1].granted.IsZero(), "one slot for the living")
	w.run(noon.Add(12 * time.Second))
	require.False(t, late[0].granted.IsZero())
	require.False(t, late[1].granted.IsZero())
}

// Of slots that become free the live call that waits gets the first, although
// the backfill asks earlier.
func TestLimiter_BackfillDoesNotOvertakeAWaitingLiveCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, state.LimitConfig{PerMinute: 60000, Concurrency: 3, Hold: time.Minute}, 1)
	w.ask(&call{lasts: time.Minute})
	w.ask(&call{lasts: 10 * time.Millisecond})
	w.ask(&call{lasts: 10 * time.Millisecond})
	live, backfill := &call{lasts: time.Minute}, &call{priority: qbo.Backfill, lasts: time.Minute}
	w.ask(live)
	w.after(11*time.Millisecond, func() { w.ask(backfill) })
	w.run(noon.Add(30 * time.Second))
	require.False(t, live.granted.IsZero())
	require.True(t, backfill.granted.IsZero())
}

// A live call whose process died while it waited holds backfills up no longer
// than its note lasts.
func TestLimiter_DeadWaiterIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, state.LimitConfig{Concurrency: 2, Hold: time.Minute}, 1)
	hold := &call{lasts: 2 * time.Second}
	w.ask(hold)
	w.ask(&call{lasts: 2 * time.Second})
	wait, err := w.limiters[0].Try(t.Context(), "9", qbo.Live, "dead")
	require.NoError(t, err)
	require.Positive(t, wait)
	b := &call{priority: qbo.Backfill, lasts: time.Millisecond}
	w.ask(b)
	w.run(noon.Add(time.Minute))
	require.False(t, b.granted.IsZero())
	require.Less(t, b.granted.Sub(noon), 4*time.Second)
}

func TestLimiter_BackfillLeavesASlot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, state.LimitConfig{PerMinute: 60000, Concurrency: 4, Hold: time.Hour}, 1)
	for range 5 {
		w.ask(&call{priority: qbo.Backfill, lasts: time.Hour})
	}
	w.run(noon.Add(5 * time.Second))
	require.Len(t, w.granted(), 3)
	w.ask(&call{lasts: time.Hour})
	require.Len(t, w.granted(qbo.Live), 1)

	one := newWorld(t, 1, state.LimitConfig{PerMinute: 60000, Concurrency: 1}, 1)
	one.ask(&call{priority: qbo.Backfill, lasts: time.Hour})
	require.Len(t, one.granted(), 1, "of one slot none can stay free")
}

func TestLimiter_PenaltyStopsEveryCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, state.DefaultLimits(), 2)
	w.ask(&call{lasts: time.Second})
	require.NoError(t, w.limiters[0].Penalize(t.Context(), "9", time.Minute))
	require.NoError(t, w.limiters[0].Penalize(t.Context(), "9", time.Second), "a longer one stays")
	require.NoError(t, w.limiters[0].Penalize(t.Context(), "9", -time.Second))
	for i := range 6 {
		w.ask(&call{priority: qbo.Priority(i % 2), lasts: time.Second})
	}
	w.run(noon.Add(time.Minute - time.Millisecond))
	require.Len(t, w.granted(), 1)
	wait, err := w.limiters[1].Try(t.Context(), "8", qbo.Live, "other realm")
	require.NoError(t, err)
	require.Zero(t, wait)
	require.NoError(t, w.limiters[1].Penalize(t.Context(), "8", time.Minute))
	wait, err = w.limiters[1].Try(t.Context(), "8", qbo.Live, "who dies now")
	require.NoError(t, err)
	require.LessOrEqual(t, wait, 5*time.Second, "its note must not last")
	w.run(noon.Add(time.Minute + 5*time.Second))
	require.Len(t, w.granted(), 7)

	require.NoError(t, w.limiters[1].Penalize(t.Context(), "9", 1000*time.Hour))
	last := &call{lasts: time.Second}
	w.ask(last)
	w.run(w.now.Add(time.Hour + time.Minute))
	require.False(t, last.granted.IsZero(), "an hour at most")
}

func TestLimiter_ClockThatGoesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, state.LimitConfig{Concurrency: 20}, 1)
	for range 12 {
		w.ask(&call{lasts: time.Second})
	}
	require.NoError(t, w.limiters[0].Penalize(t.Context(), "9", time.Second))
	w.run(noon.Add(5 * time.Second))
	for range 10 {
		w.ask(&call{lasts: time.Second})
	}
	w.run(w.now.Add(100 * time.Millisecond))

	w.events = nil
	w.now = noon.Add(-3 * time.Hour)
	w.redis.SetTime(w.now)
	back := w.now
	c := &call{lasts: time.Second}
	w.ask(c)
	w.run(back.Add(time.Minute))
	require.False(t, c.granted.IsZero())
	require.Less(t, c.granted.Sub(back), 3*time.Second)
}

func TestLimiter_LostAnswerCountsOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		l := s.Limiter(state.LimitConfig{PerMinute: 1, Burst: 2, Concurrency: 8})
		for range 3 {
			wait, err := l.Try(t.Context(), "9", qbo.Live, "a")
			require.NoError(t, err)
			require.Zero(t, wait)
		}
		wait, err := l.Try(t.Context(), "9", qbo.Live, "b")
		require.NoError(t, err)
		require.Zero(t, wait)
		wait, err = l.Try(t.Context(), "9", qbo.Live, "c")
		require.NoError(t, err)
		require.Positive(t, wait)
	})
}

func TestLimiter_ReleaseTwiceFreesOneSlot(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		l := s.Limiter(state.LimitConfig{PerMinute: 60000, Concurrency: 2})
		first, err := l.Acquire(t.Context(), "9", qbo.Live)
		require.NoError(t, err)
		_, err = l.Acquire(t.Context(), "9", qbo.Live)
		require.NoError(t, err)
		first()
		first()
		_, err = l.Acquire(t.Context(), "9", qbo.Live)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err = l.Acquire(ctx, "9", qbo.Live)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// Chaos run, seed 1101: Redis was emptied while calls took eight seconds, and the realm
// had eleven at once.
func TestLimiter_CallsUnderWayAreNotedAgainAfterRedisLostThem(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		l := s.Limiter(state.LimitConfig{PerMinute: 60000, Concurrency: 2})
		release, err := l.Acquire(t.Context(), "9", qbo.Live)
		require.NoError(t, err)
		over, err := l.Acquire(t.Context(), "9", qbo.Live)
		require.NoError(t, err)
		over()
		slots := "lf:tmp:" + state.Key("slot", "9")[len("lf:"):]
		require.NoError(t, s.Redis().Del(t.Context(), slots).Err())
		known := func() int64 { return s.Redis().ZCard(t.Context(), slots).Val() }
		require.Eventually(t, func() bool { return known() > 0 }, 10*time.Second, 5*time.Millisecond)
		require.EqualValues(t, 1, known(), "the one that is over is not under way")
		release()
		require.Never(t, func() bool { return known() > 0 }, time.Second, 5*time.Millisecond)
	})
}

// A Redis that has lost all while calls are under way grants none before it knows of them,
// neither to a process that knew it before nor to one that has just begun too.
func TestLimiter_RedisThatBeginsAnewWaitsForCallsUnderWay(t *testing.T) {
	t.Parallel()
	for name, fresh := range map[string]bool{"known": false, "fresh": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := devtest.StartRealRedis(t)
			config := state.LimitConfig{PerMinute: 60000, PerSecond: 1000, Burst: 100, Concurrency: 2}
			one, other := open(t, at(server.URL())).Limiter(config), open(t, at(server.URL())).Limiter(config)
			release, err := one.Acquire(t.Context(), "9", qbo.Live)
			require.NoError(t, err)
			over, err := other.Acquire(t.Context(), "9", qbo.Live)
			require.NoError(t, err)
			over()

			server.Kill()
			server.Empty()
			server.Start()
			if fresh {
				other = open(t, at(server.URL())).Limiter(config)
			}
			var granted atomic.Int32
			for range 2 {
				go func() {
					if _, err := other.Acquire(t.Context(), "9", qbo.Live); err == nil {
						granted.Add(1)
					}
				}()
			}
			require.Eventually(t, func() bool { return granted.Load() > 0 }, 10*time.Second, time.Millisecond)
			require.Never(t, func() bool { return granted.Load() > 1 }, time.Second, 10*time.Millisecond, "the first one is still under way")
			release()
			require.Eventually(t, func() bool { return granted.Load() == 2 }, 10*time.Second, time.Millisecond)
		})
	}
}

// Chaos run, seed 2000: the links to Redis were deaf while calls ended, and three companies
// stood still for two minutes.
func TestLimiter_SlotsAreGivenBackWhenRedisIsThereAgain(t *testing.T) {
	t.Parallel()
	server := devtest.StartRealRedis(t)
	address := strings.TrimSuffix(strings.TrimPrefix(server.URL(), "redis://"), "/0")
	link, err := faultproxy.Start(t.Context(), address, nil)
	require.NoError(t, err)
	defer link.Close()
	direct := open(t, at(server.URL()))
	l := open(t, at("redis://"+link.Addr()+"/0")).Limiter(state.LimitConfig{PerMinute: 60000, Concurrency: 2})
	release, err := l.Acquire(t.Context(), "9", qbo.Live)
	require.NoError(t, err)
	slots := "lf:tmp:" + state.Key("slot", "9")[len("lf:"):]
	known := func() int64 { return direct.Redis().ZCard(t.Context(), slots).Val() }
	require.EqualValues(t, 1, known())

	link.Cut()
	release()
	require.Never(t, func() bool { return known() == 0 }, time.Second, 100*time.Millisecond)
	link.Restore()
	require.Eventually(t, func() bool { return known() == 0 }, 10*time.Second, 5*time.Millisecond)
}

// Who gives up waiting leaves nothing behind that holds others up.
func TestLimiter_AcquireEndsWithItsContext(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		l := s.Limiter(state.LimitConfig{})
		require.NoError(t, l.Penalize(t.Context(), "9", time.Minute))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			_, err := l.Acquire(ctx, "9", qbo.Live)
			ended <- err
		}()
		wait := state.Key("wait", "9")
		wait = "lf:tmp:" + wait[len("lf:"):]
		require.Eventually(t, func() bool { return s.Redis().ZCard(t.Context(), wait).Val() == 1 }, 5*time.Second, time.Millisecond)
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
		require.Zero(t, s.Redis().ZCard(t.Context(), wait).Val())
	})
}

// The same count as above in real time on real servers, with small numbers.
func TestLimiter_NeverMoreThanAllowedInRealTime(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		c := state.LimitConfig{PerMinute: 6000, Burst: 5, Concurrency: 3, Hold: 250 * time.Millisecond}
		replicas := []*state.Limiter{s.Limiter(c), s.Limiter(c), s.Limiter(c)}
		over, err := replicas[0].Acquire(t.Context(), "1", qbo.Live) // a server that has just begun lets all wait
		require.NoError(t, err)
		over()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()

		var mu sync.Mutex // guards the rest
		var under, top, granted int
		var dead []time.Time // until when calls of dead processes count at least
		enter := func(asked time.Time, crash bool) {
			mu.Lock()
			defer mu.Unlock()
			granted++
			dead = slices.DeleteFunc(dead, func(until time.Time) bool { return time.Now().After(until) })
			if crash {
				dead = append(dead, asked.Add(c.Hold))
			} else {
				under++
			}
			top = max(top, under+len(dead))
		}
		leave := func() {
			mu.Lock()
			defer mu.Unlock()
			under--
		}
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					asked := time.Now()
					release, err := replicas[i%3].Acquire(ctx, "9", qbo.Priority(i%4/3))
					if err != nil {
						continue
					}
					crash := i == 0 && n%10 == 3
					enter(asked, crash)
					if crash {
						continue
					}
					<-time.After(5 * time.Millisecond)
					leave()
					release()
				}
			})
		}
		wg.Wait()
		require.LessOrEqual(t, top, c.Concurrency)
		require.LessOrEqual(t, granted, c.Burst+int(time.Since(start)/(10*time.Millisecond))+1)
		require.Greater(t, granted, 8)
	})
}

// Under live calls that never leave room a backfill gets its turn all the same, after
// a while.
func TestLimiter_ABackfillIsNotStarved(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		l := s.Limiter(state.LimitConfig{PerMinute: 600, Burst: 1, Concurrency: 100})
		ctx, cancel := context.WithCancel(t.Context())
		var busy sync.WaitGroup
		defer busy.Wait()
		defer cancel()
		for range 20 {
			busy.Go(func() {
				for {
					release, err := l.Acquire(ctx, "9", qbo.Live)
					if err != nil {
						return
					}
					release()
				}
			})
		}
		wait := state.Key("wait", "9")
		wait = "lf:tmp:" + wait[len("lf:"):]
		require.Eventually(t, func() bool { return s.Redis().ZCard(t.Context(), wait).Val() >= 15 }, 10*time.Second, time.Millisecond)
		short, giveUp := context.WithTimeout(t.Context(), time.Second)
		defer giveUp()
		_, err := l.Acquire(short, "9", qbo.Backfill)
		require.ErrorIs(t, err, context.DeadlineExceeded, "live calls go first")

		aging := s.Limiter(state.LimitConfig{PerMinute: 600, Burst: 1, Concurrency: 100})
		aging.SetAging(200 * time.Millisecond)
		long, end := context.WithTimeout(t.Context(), 20*time.Second)
		defer end()
		_, err = aging.Acquire(long, "9", qbo.Backfill)
		require.NoError(t, err)
	})
}
