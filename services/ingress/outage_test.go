package ingress_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
)

const budget = 400 * time.Millisecond

func shortBudget(c *ingress.IngressConfig) { c.Budget, c.BodyTimeout = budget, budget }

func requireUnavailable(t *testing.T, a answer) {
	t.Helper()
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	require.Less(t, a.took, 2*time.Second, "the budget, and what a busy machine adds")
	require.Equal(t, "10", a.header.Get("Retry-After"))
	requireChosenText(t, http.StatusServiceUnavailable, a)
}

func TestServer_BrokerGoneIs503WithinTheBudgetAndBackIs200(t *testing.T) {
	b := setup(t, configured(shortBudget))
	b.proxy.Cut()
	requireUnavailable(t, b.post(event("1", "1"), oldToken))
	requireUnavailable(t, b.post([]byte("unreadable"), oldToken))
	require.Equal(t, 401, b.post(event("1", "1"), "wrong").status, "strangers hear nothing of it")
	require.Error(t, b.server.Ready(t.Context()))

	b.proxy.Restore()
	require.Eventually(t, func() bool { return b.post(event("1", "1"), oldToken).status == 200 }, 20*time.Second, 20*time.Millisecond)
	require.Equal(t, 200, b.post([]byte("unreadable"), oldToken).status)
	require.NoError(t, b.server.Ready(t.Context()))
	require.Len(t, b.takes(1)[0].Events, 1)
	require.Len(t, b.letters(), 1)
}

// I1: what the broker stored without being able to say so is not answered 200.
func TestServer_NoAckIs503(t *testing.T) {
	b := setup(t, configured(shortBudget))
	b.proxy.Mute()
	requireUnavailable(t, b.post(event("1", "1"), oldToken))
	require.Equal(t, 1, b.stored(), "it is there, but nobody said so")
	b.proxy.Unmute()
	require.Equal(t, 200, b.post(event("1", "1"), oldToken).status)
	require.Equal(t, 1, b.stored(), "sent again, stored once")
}

// cut loses calls at random: before the broker has them, or their answer.
type cut struct {
	ingress.Publisher
	mu     sync.Mutex
	random *rand.Rand
}

var errCut = errors.New("cut")

func (c *cut) at() (before, after bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.random.IntN(3) == 0, c.random.IntN(3) == 0
}

func (c *cut) Publish(ctx context.Context, envs ...*ledgerfeedv1.Envelope) error {
	before, after := c.at()
	if before {
		return errCut
	}
	if after {
		// Part of it arrives, the answer does not.
		return errors.Join(errCut, c.Publisher.Publish(ctx, envs[:len(envs)/2]...))
	}
	return c.Publisher.Publish(ctx, envs...)
}

func (c *cut) PublishDead(ctx context.Context, l stream.DeadLetter) error {
	before, after := c.at()
	if before {
		return errCut
	}
	if err := c.Publisher.PublishDead(ctx, l); err != nil || !after {
		return err
	}
	return errCut
}

// I1 and I10: whatever is cut, a 200 means that all of the body is stored, and a
// sender that tries again as Intuit does loses nothing.
func TestServer_NeverAnswers200ForWhatIsNotStored(t *testing.T) {
	b := setup(t, publishingTo(func(p ingress.Publisher) ingress.Publisher {
		return &cut{Publisher: p, random: rand.New(rand.NewPCG(1, 2))}
	}))
	body := func(i int) []byte { // two realms and an unreadable item
		one, two := event(fmt.Sprint("1", i), "1"), event(fmt.Sprint("2", i), "1")
		return []byte(fmt.Sprintf("%s,%s,{\"junk\":%d}]", one[:len(one)-1], two[1:len(two)-1], i))
	}
	const bodies = 60
	var refused atomic.Int64
	var senders sync.WaitGroup
	for worker := range 6 {
		senders.Go(func() {
			for i := worker; i < bodies; i += 6 {
				for tries := 0; ; tries++ {
					a, err := b.send(b.request(body(i), oldToken))
					if err == nil && a.status == 200 {
						break
					}
					if err != nil || a.status != 503 || tries > 200 {
						t.Errorf("body %d, try %d: %d %v", i, tries, a.status, err)
						return
					}
					refused.Add(1)
				}
			}
		})
	}
	senders.Wait()
	require.Positive(t, refused.Load(), "nothing was cut")
	realms := map[string]int{}
	for _, env := range b.takes(2 * bodies) {
		realms[env.RealmId]++
	}
	require.Len(t, realms, 2*bodies)
	require.Len(t, b.letters(), bodies)
}

// held is a publisher that waits until it is released.
type held struct {
	ingress.Publisher
	arrived chan struct{}
	release chan struct{}
}

func newHeld() *held { return &held{arrived: make(chan struct{}, 1000), release: make(chan struct{})} }

func (h *held) Publish(ctx context.Context, envs ...*ledgerfeedv1.Envelope) error {
	h.arrived <- struct{}{}
	select {
	case <-h.release:
		return h.Publisher.Publish(ctx, envs...)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// with returns the setting that puts it in front of the broker.
func (h *held) with() setting {
	return publishingTo(func(p ingress.Publisher) ingress.Publisher { h.Publisher = p; return h })
}

// I13: what is in hand at the stop is finished, and nothing new is taken.
func TestServer_DrainFinishesWhatIsInHand(t *testing.T) {
	h := newHeld()
	b := setup(t, h.with())
	answers := make(chan int, 5)
	for i := range 5 {
		go func() {
			a, err := b.send(b.request(event("1", fmt.Sprint(i)), oldToken))
			if err != nil {
				a.status = -1
			}
			answers <- a.status
		}()
	}
	for range 5 {
		<-h.arrived
	}
	b.stop()
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", b.server.Addr())
		if err == nil {
			conn.Close()
		}
		return err != nil
	}, 10*time.Second, 5*time.Millisecond, "still accepting")
	require.EqualError(t, b.server.Ready(t.Context()), "draining")
	select {
	case err := <-b.ended:
		t.Fatalf("returned with requests in hand: %v", err)
	default:
	}
	close(h.release)
	for range 5 {
		require.Equal(t, 200, <-answers)
	}
	require.NoError(t, b.end())
	require.Equal(t, 5, b.stored())
}

func TestServer_DrainIsBounded(t *testing.T) {
	h := newHeld()
	b := setup(t, h.with(), configured(func(c *ingress.IngressConfig) { c.DrainTimeout = 50 * time.Millisecond }))
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = b.send(b.request(event("1", "1"), oldToken))
	}()
	<-h.arrived
	started := time.Now()
	require.ErrorContains(t, b.end(), "requests still in flight after 50ms")
	require.Less(t, time.Since(started), 2*time.Second)
	close(h.release)
	<-sent
	<-b.ended
	b.ended <- nil // seen
	b.idle()
}

func TestServer_TooManyInHandIs503AtOnce(t *testing.T) {
	h := newHeld()
	b := setup(t, h.with(), configured(func(c *ingress.IngressConfig) { c.MaxInFlight = 2 }))
	answers := make(chan int, 2)
	for i := range 2 {
		go func() {
			a, _ := b.send(b.request(event("1", fmt.Sprint(i)), oldToken))
			answers <- a.status
		}()
	}
	<-h.arrived
	<-h.arrived
	require.Equal(t, 401, b.post(event("1", "x"), "wrong").status, "a stranger takes no place and needs none")
	for range 3 {
		a := b.post(event("1", "x"), oldToken)
		require.Less(t, a.took, 2*time.Second)
		require.Equal(t, 503, a.status)
		requireChosenText(t, 503, a)
	}
	close(h.release)
	require.Equal(t, 200, <-answers)
	require.Equal(t, 200, <-answers)
	require.Equal(t, 200, b.post(event("1", "x"), oldToken).status)
	require.EqualValues(t, 3, b.requests("demo", "overloaded"))
	require.Equal(t, 2, b.logs.FilterMessage("notification refused").Len(), "one line for the stranger, one for all three")
}

func TestServer_TooManyBytesInHandIs503(t *testing.T) {
	h := newHeld()
	b := setup(t, h.with(), configured(func(c *ingress.IngressConfig) { c.MaxBody, c.MaxInFlightBytes = 1<<20, 1<<20+1 }))
	large := append(event("1", "1"), make([]byte, 1<<20-1000)...)
	for i := len(event("1", "1")); i < len(large); i++ {
		large[i] = ' '
	}
	answers := make(chan int, 1)
	go func() {
		a, _ := b.send(b.request(large, oldToken))
		answers <- a.status
	}()
	<-h.arrived
	require.Equal(t, 503, b.post(event("1", "2"), oldToken).status)
	require.EqualValues(t, 1, b.requests("demo", "overloaded"))
	close(h.release)
	require.Equal(t, 200, <-answers)
	b.idle()
	require.Equal(t, 200, b.post(event("1", "2"), oldToken).status)
}

// A sender that hangs up after the body does not undo what is being stored.
func TestServer_SenderThatHangsUpIsStoredAllTheSame(t *testing.T) {
	h := newHeld()
	b := setup(t, h.with())
	conn, err := net.Dial("tcp", b.server.Addr())
	require.NoError(t, err)
	require.NoError(t, b.request(event("1", "1"), oldToken).Write(conn))
	<-h.arrived
	require.NoError(t, conn.Close())
	close(h.release)
	require.Eventually(t, func() bool { return b.requests("demo", "stored") == 1 }, 10*time.Second, 2*time.Millisecond)
	require.Equal(t, 1, b.stored())
}

type crashing struct{ ingress.Publisher }

func (crashing) Publish(context.Context, ...*ledgerfeedv1.Envelope) error { panic("out of luck") }

func TestServer_CrashIs503AndLogged(t *testing.T) {
	b := setup(t, publishingTo(func(p ingress.Publisher) ingress.Publisher { return crashing{p} }))
	a := b.post(event("1", "1"), oldToken)
	require.Equal(t, 503, a.status)
	requireChosenText(t, 503, a)
	lines := b.logs.FilterMessage("request crashed").All()
	require.Len(t, lines, 1)
	require.Contains(t, fmt.Sprint(lines[0].ContextMap()["error"]), "out of luck")
	require.Contains(t, fmt.Sprint(lines[0].ContextMap()["error"]), "publish.go")
	require.Equal(t, 200, b.post([]byte("unreadable"), oldToken).status, "it goes on")
	b.idle()
}
