package ingress_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

const (
	// intuitsPatience: an answer after it counts as none, so none may be later.
	intuitsPatience = 3 * time.Second
	// senders are few, so that a busy machine's share of the patience is small, and
	// enough to share a sync at the broker.
	senders = 12
	// pause before a refused body is sent again. Intuit waits ten seconds and more.
	pause = 50 * time.Millisecond
	// hiccup is a pause of the machine that is worth noting.
	hiccup = 10 * time.Millisecond
	// comesBack is how long the recovery may take, on a busy machine.
	comesBack = 60 * time.Second
)

// load is what the bodies are like. The zero value is three events of two realms.
type load struct {
	events int           // so many more events
	pause  time.Duration // after each body
	junk   int           // size of the unreadable bodies that two of three are; 0 for none
}

// traffic is senders that post signed bodies one after the other, each again
// until it is answered 200, as Intuit does.
type traffic struct {
	b *bundle
	load
	client *http.Client
	stop   context.CancelFunc
	done   sync.WaitGroup
	read   func() map[string]*ledgerfeedv1.Envelope
	stood  *standstill

	mu       sync.Mutex // guards what follows
	begun    map[string]bool
	accepted map[string]*ledgerfeedv1.Envelope // what must be stored, by id
	letters  map[[sha256.Size]byte]bool        // bodies that must be dead letters
	bodies   [senders]int                      // answered 200, by sender
	refused  int
	slowest  time.Duration
}

// traffic starts the senders. End it by holds.
func (b *bundle) traffic(l load) *traffic {
	b.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	tr := &traffic{
		b: b, load: l, stop: stop, stood: watch(b.t), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: senders}, Timeout: 20 * time.Second},
		begun: map[string]bool{}, accepted: map[string]*ledgerfeedv1.Envelope{}, letters: map[[sha256.Size]byte]bool{},
	}
	for i := range senders {
		tr.done.Go(func() { tr.sends(ctx, i) })
	}
	b.t.Cleanup(func() { // before the server's own
		stop()
		tr.done.Wait()
		tr.client.CloseIdleConnections()
	})
	tr.flows()
	return tr
}

func (tr *traffic) sends(ctx context.Context, sender int) {
	for n := 0; ctx.Err() == nil; n++ {
		body := tr.body(sender, n)
		envs := expected(body)
		tr.mu.Lock()
		for _, e := range envs {
			tr.begun[e.Id] = true
		}
		tr.mu.Unlock()
		if err := tr.delivers(ctx, body); err != nil {
			tr.b.t.Errorf("sender %d, body %d: %v", sender, n, err)
			return
		}
		tr.mu.Lock()
		for _, e := range envs {
			tr.accepted[e.Id] = e
		}
		if len(envs) == 0 {
			tr.letters[sha256.Sum256(body)] = true
		}
		tr.bodies[sender]++
		tr.mu.Unlock()
		<-time.After(tr.pause)
	}
}

// delivers sends one body until it is answered 200. After the end of ctx it may
// take as long as a recovery.
func (tr *traffic) delivers(ctx context.Context, body []byte) error {
	var deadline time.Time
	for {
		stood := tr.stood.total()
		status, took, err := tr.post(body)
		took -= tr.stood.total() - stood
		tr.mu.Lock()
		tr.slowest = max(tr.slowest, took)
		if status != http.StatusOK {
			tr.refused++
		}
		tr.mu.Unlock()
		switch {
		case err != nil:
			return err
		case took > intuitsPatience:
			return fmt.Errorf("answered %d after %s: Intuit is gone", status, took)
		case status == http.StatusOK:
			return nil
		case tr.junk > 0 && status == http.StatusRequestTimeout: // a busy machine does not send it in time
		case status != http.StatusServiceUnavailable:
			return fmt.Errorf("answered %d", status)
		}
		if deadline.IsZero() && ctx.Err() != nil {
			deadline = time.Now().Add(comesBack)
		}
		if !deadline.IsZero() && time.Now().After(deadline) {
			return fmt.Errorf("answered %d for %s after the end", status, comesBack)
		}
		<-time.After(pause)
	}
}

// post returns the answer and how long it took from the moment the whole request
// was written.
func (tr *traffic) post(body []byte) (status int, took time.Duration, err error) {
	var written time.Time
	var mu sync.Mutex // the request is written by another goroutine
	trace := &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) {
		mu.Lock()
		defer mu.Unlock()
		written = time.Now()
	}}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(context.Background(), trace), http.MethodPost,
		"http://"+tr.b.server.Addr()+"/webhooks/demo", bytes.NewReader(body))
	if err != nil {
		return 0, 0, err
	}
	req.Header.Set(webhook.SignatureHeader, webhook.Sign(body, newToken))
	resp, err := tr.client.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	mu.Lock()
	defer mu.Unlock()
	return resp.StatusCode, time.Since(written), err
}

// body is unlike any other.
func (tr *traffic) body(sender, n int) []byte {
	if tr.junk > 0 && n%3 > 0 {
		return append(fmt.Appendf(nil, "{%d %d", sender, n), make([]byte, tr.junk)...)
	}
	one, two := event(fmt.Sprint("1", sender), fmt.Sprint(n)), event(fmt.Sprint("2", sender), fmt.Sprint(n))
	body := fmt.Appendf(nil, "%s,%s", one[:len(one)-1], two[1:len(two)-1])
	for i := range 1 + tr.events {
		more := event(fmt.Sprint("2", sender), fmt.Sprint(n, "-", i))
		body = fmt.Appendf(body, ",%s", more[1:len(more)-1])
	}
	return append(body, ']')
}

func expected(body []byte) []*ledgerfeedv1.Envelope {
	n, err := webhook.Parse(body)
	if err != nil {
		return nil
	}
	return envelope.FromNotification(body, n, envelope.Meta{App: "demo", ReceivedAt: now})
}

// refusals is how many answers were not 200.
func (tr *traffic) refusals() int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.refused
}

// bites waits until the fault is felt: that many more bodies are refused.
func (tr *traffic) bites(n int) {
	tr.b.t.Helper()
	before := tr.refusals()
	tr.b.eventually(func() bool { return tr.refusals() >= before+n }, "nothing is refused")
}

// flows waits until every sender has had a body accepted that it began after the
// call: two, as the first may be older.
func (tr *traffic) flows() {
	tr.b.t.Helper()
	tr.mu.Lock()
	before := tr.bodies
	tr.mu.Unlock()
	tr.b.eventually(func() bool {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		for i := range before {
			if tr.bodies[i] < before[i]+2 {
				return false
			}
		}
		return true
	}, "a sender is still refused")
}

// unanswered waits until something is stored whose sender has no answer.
func (tr *traffic) unanswered() {
	tr.b.t.Helper()
	tr.b.eventually(func() bool {
		stored, ok := tr.stored()
		tr.mu.Lock()
		defer tr.mu.Unlock()
		return ok && stored > len(tr.accepted)
	}, "nothing is stored")
}

// stored is how many envelopes the broker has, if it says so.
func (tr *traffic) stored() (n int, ok bool) {
	lag, err := tr.b.direct.Lag(tr.b.t.Context(), stream.Events, "test")
	return int(lag.Stored), err == nil
}

func (b *bundle) eventually(f func() bool, complaint string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return b.t.Failed() || f() }, comesBack, 5*time.Millisecond, complaint)
	require.False(b.t, b.t.Failed(), "see above")
}

// empties takes what is stored off the stream, from now on until holds.
func (tr *traffic) empties() {
	tr.b.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	got := map[string]*ledgerfeedv1.Envelope{}
	ended := make(chan error, 1)
	var failed error
	go func() {
		ended <- tr.b.direct.Consume(ctx, stream.ConsumeOptions{Queue: stream.Events, Durable: "test"}, func(m *stream.Message) {
			env, err := m.Envelope()
			if err == nil {
				got[env.Id] = env
				err = m.Ack(ctx)
			}
			if err != nil && ctx.Err() == nil {
				failed = err
			}
		})
	}()
	read := sync.OnceValue(func() map[string]*ledgerfeedv1.Envelope {
		stop()
		require.NoError(tr.b.t, <-ended)
		require.NoError(tr.b.t, failed)
		return got
	})
	tr.b.t.Cleanup(func() { stop(); read() })
	tr.read = read
}

// holds ends the traffic and compares what was answered 200 with what is stored
// (I1).
func (tr *traffic) holds() {
	tr.b.t.Helper()
	tr.flows() // without a restart, and every sender
	tr.stop()
	tr.done.Wait()
	require.False(tr.b.t, tr.b.t.Failed(), "see above")
	if tr.read == nil {
		tr.empties()
	}
	tr.b.eventually(func() bool { n, ok := tr.stored(); return ok && n == 0 }, "the stream cannot be read")
	got := tr.read()
	for id, want := range tr.accepted {
		require.Empty(tr.b.t, cmp.Diff(want, got[id], protocmp.Transform()), "answered 200 and not stored as sent")
	}
	for id := range got {
		require.True(tr.b.t, tr.begun[id], "stored and never sent")
	}
	if len(tr.letters) > 0 {
		for _, letter := range tr.b.letters() {
			delete(tr.letters, sha256.Sum256(letter.Body))
		}
	}
	require.Empty(tr.b.t, tr.letters, "answered 200 and not among the dead letters")
	tr.b.t.Logf("%d bodies in %d envelopes (batches: %.0f committed, %.0f duplicate, %.0f refused, %.0f unanswered), %d refusals, slowest answer %s",
		sum(tr.bodies[:]), len(tr.accepted), tr.batches("committed"), tr.batches("duplicate"), tr.batches("refused"), tr.batches("unanswered"),
		tr.refused, tr.slowest.Round(time.Millisecond))
}

// batches is how many of the connection ended so.
func (tr *traffic) batches(outcome string) float64 {
	return tr.b.metric("ledgerfeed_stream_batches_total", "outcome", outcome)
}

// standstill measures how much later than asked timers fire: so much later may an
// answer be, whoever is to blame for the load of the machine.
type standstill struct{ sum atomic.Int64 } // nanoseconds

func watch(t testing.TB) *standstill {
	s := &standstill{}
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			asked := time.Now().Add(hiccup)
			select {
			case <-stop:
				return
			case <-time.After(hiccup):
			}
			if late := time.Since(asked); late > hiccup {
				s.sum.Add(int64(late))
			}
		}
	})
	t.Cleanup(func() { close(stop); done.Wait() })
	return s
}

func (s *standstill) total() time.Duration { return time.Duration(s.sum.Load()) }

func sum(ns []int) (s int) {
	for _, n := range ns {
		s += n
	}
	return s
}
