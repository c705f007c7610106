package processor_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/sinktest"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// shelf is what a handler keeps as its documentation asks for: the newest version
// of each entity.
type shelf struct {
	processor.Sink

	mu     sync.Mutex // guards newest
	newest map[sink.Ref]sink.Record
}

func (s *shelf) handle(_ context.Context, c *ledgerfeedv1.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := sink.RecordOf(c); r.Supersedes(s.newest[r.Ref].Row()) {
		s.newest[r.Ref] = r
	}
	return nil
}

func (s *shelf) Snapshot(context.Context) (map[sink.Ref]sink.Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := map[sink.Ref]sink.Row{}
	for ref, r := range s.newest {
		rows[ref] = r.Row()
	}
	return rows, nil
}

func (s *shelf) Records(context.Context) iter.Seq2[sink.Record, error] {
	return func(yield func(sink.Record, error) bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, r := range s.newest {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func TestHandlerSink_KeepsTheContract(t *testing.T) {
	t.Parallel()
	sinktest.Run(t, func(*testing.T) sinktest.Place {
		s := &shelf{newest: map[sink.Ref]sink.Record{}}
		return sinktest.Place{Open: func() sinktest.Sink {
			s.Sink = processor.HandlerSink("shelf", s.handle)
			return s
		}}
	})
}

// Each change has an outcome of its own, whatever the handler does with another.
func TestHandlerSink_TellsTheChangesApart(t *testing.T) {
	t.Parallel()
	var taken atomic.Int64
	s := processor.HandlerSink("books", func(_ context.Context, c *ledgerfeedv1.Change) error {
		switch c.GetEntityId() {
		case "refused":
			return stream.Permanent(stream.ReasonSinkRefused, errors.New("no such account"))
		case "failed":
			return errors.New("not now")
		case "panic":
			return errors.New(c.GetEntityId()[99:])
		case "exit":
			runtime.Goexit()
		}
		taken.Add(1)
		return nil
	})
	ids := []string{"1", "refused", "2", "failed", "panic", "3", "exit", "4"}
	var changes []*ledgerfeedv1.Change
	for _, id := range ids {
		changes = append(changes, sinktest.Change(id, 1, `{}`))
	}
	var partial *sink.PartialError
	require.ErrorAs(t, s.Write(t.Context(), changes), &partial)
	require.Len(t, partial.Errs, len(ids))
	require.EqualValues(t, 4, taken.Load())
	for i, want := range []string{"", "no such account", "", "not now", "the handler panicked: runtime error: slice bounds out of range", "", "did not return", ""} {
		if want == "" {
			require.NoError(t, partial.Errs[i])
			continue
		}
		require.ErrorContains(t, partial.Errs[i], want)
		_, permanent := stream.AsPermanent(partial.Errs[i])
		require.Equal(t, ids[i] == "refused", permanent, ids[i])
	}
	require.ErrorContains(t, partial.Errs[4], "handler_test.go:", "it says where")
}

// One that waits for another server must not spend the time of a batch on a few.
func TestHandlerSink_HandlesSeveralChangesAtATime(t *testing.T) {
	t.Parallel()
	together := make(chan struct{})
	var here atomic.Int64
	s := processor.HandlerSink("books", func(ctx context.Context, _ *ledgerfeedv1.Change) error {
		if here.Add(1) == 10 {
			close(together)
		}
		select {
		case <-together:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	defer cancel()
	var changes []*ledgerfeedv1.Change
	for i := range 10 {
		changes = append(changes, sinktest.Change(fmt.Sprint(i), 1, `{}`))
	}
	require.NoError(t, s.Write(ctx, changes))
}

// A replica outlives a handler that panics, its other sinks do not notice, and the
// change comes again.
func TestProcessor_AHandlerThatPanicsIsTriedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var calls atomic.Int64
	s := &shelf{newest: map[sink.Ref]sink.Record{}}
	o := b.options()
	o.Sinks = []processor.Sink{b.a, processor.HandlerSink("handler", func(ctx context.Context, c *ledgerfeedv1.Change) error {
		if calls.Add(1) <= 2 {
			panic("not yet")
		}
		return s.handle(ctx, c)
	})}
	p := b.run(o)
	bill := b.create("Bill", nil)
	b.deliver(p)
	b.requireEqual(b.a)
	b.a.requireOnce(t)
	require.EqualValues(t, 3, calls.Load())
	require.Equal(t, latest(t, b, bill).Version, s.newest[sink.Ref(bill)].Version)
	require.Empty(t, b.dead())
}

// The whole service runs with nothing but a handler.
func TestServeWith_RunsTheServiceWithAHandler(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.grant(realm, time.Now())
	got := make(chan *ledgerfeedv1.Change, 1)
	s := processor.HandlerSink("handler", func(_ context.Context, c *ledgerfeedv1.Change) error {
		got <- c
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- processor.ServeWith(s)(ctx, b.environ()) }()
	bill := b.create("Bill", nil)
	b.publish(b.webhooks()...)
	select {
	case c := <-got:
		require.Equal(t, bill, refOf(c))
		require.Equal(t, latest(t, b, bill).Raw, c.GetDocument())
	case err := <-ended:
		t.Fatal(err)
	case <-time.After(patient):
		t.Fatal("nothing is delivered")
	}
	cancel()
	require.NoError(t, <-ended)
	require.ErrorContains(t, s.Write(t.Context(), nil), "closed")
}

func TestServeWith_ClosesItsSinksWhenTheStartFails(t *testing.T) {
	t.Parallel()
	s := processor.HandlerSink("handler", func(context.Context, *ledgerfeedv1.Change) error { return nil })
	err := processor.ServeWith(s)(t.Context(), nil)
	require.Equal(t, lifecycle.ExitUsage, lifecycle.ExitCode(err))
	require.NotContains(t, err.Error(), "processor.sinks", "a compiled-in sink is enough")
	require.ErrorContains(t, s.Write(t.Context(), nil), "closed")
	require.ErrorContains(t, processor.ServeWith()(t.Context(), nil), "processor.sinks is empty")
}

// environ is that of a service on the servers of the bundle, without its sinks.
func (b *bundle) environ() []string {
	return []string{
		"LEDGERFEED_NATS_URL=" + b.natsURL, "LEDGERFEED_NATS_PROFILE=dev", "LEDGERFEED_REDIS_URL=" + b.redisURL,
		"LEDGERFEED_ADMIN_LISTEN=off", "LEDGERFEED_LOG_FORMAT=console", "LEDGERFEED_LOG_LEVEL=error",
		"LEDGERFEED_QBO_BASE_URL=" + b.api.URL, "LEDGERFEED_QBO_TOKEN_URL=" + b.api.URL + "/oauth2/v1/tokens/bearer",
		"LEDGERFEED_QBO_CLIENT_ID=app", "LEDGERFEED_QBO_CLIENT_SECRET=hush",
		"LEDGERFEED_CONNECTION_KEYS=test:" + base64.StdEncoding.EncodeToString(make([]byte, 32)),
	}
}
