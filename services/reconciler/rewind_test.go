package reconciler_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

// holdUp is a process that is stopped for a while (SIGSTOP, a link that is deaf) just
// before the first command to Redis that is so.
type holdUp struct {
	so        func(redis.Cmder) bool
	meanwhile func()
	once      sync.Once
}

func (h *holdUp) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *holdUp) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *holdUp) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if h.so(cmd) {
			h.once.Do(h.meanwhile)
		}
		return next(ctx, cmd)
	}
}

// heldUp is a reconciler, another process, that is held up.
func (b *bundle) heldUp(so func(redis.Cmder) bool, meanwhile func()) *reconciler.Reconciler {
	b.t.Helper()
	store, err := state.Open(b.t.Context(), state.Options{Config: state.Config{URL: secret.String(b.redisURL)}, Now: b.clock.Now})
	require.NoError(b.t, err)
	b.t.Cleanup(func() { require.NoError(b.t, store.Close()) })
	store.Redis().AddHook(&holdUp{so: so, meanwhile: meanwhile})
	r, err := reconciler.New(reconciler.Options{
		Config: b.config, Stream: b.conn, State: store, QBO: b.client, Connections: b.connections, Logger: b.log, Now: b.clock.Now,
	})
	require.NoError(b.t, err)
	return r
}

// writes reports whether a command writes to a key, and all the texts are in it.
func writes(cmd redis.Cmder, texts ...string) bool {
	if !slices.Contains([]string{"zadd", "evalsha", "eval", "hset", "set"}, cmd.Name()) {
		return false
	}
	for _, text := range texts {
		if !slices.Contains(cmd.Args(), any(text)) {
			return false
		}
	}
	return true
}

// A scan is held up just before it moves its cursors, or notes how far a load has come,
// and meanwhile a processor that starts has a new sink.
func TestRewind_AScanThatIsHeldUpKeepsNothingFromANewSink(t *testing.T) {
	t.Parallel()
	cursors := state.Key("cur", realm)
	for name, tc := range map[string]struct {
		missing int
		so      func(*bundle, redis.Cmder) bool
	}{
		"before it moves what was not missing": {0, func(_ *bundle, c redis.Cmder) bool { return writes(c, cursors) }},
		"before it moves what was verified": {1, func(b *bundle, c redis.Cmder) bool {
			// The command of a saved scan names it.
			return writes(c, cursors) && slices.ContainsFunc(b.scans(), func(s state.Scan) bool { return writes(c, s.ID) })
		}},
		"before it keeps the pace":  {0, func(_ *bundle, c redis.Cmder) bool { return writes(c, state.Key("pace", realm)) }},
		"before it saves the scan":  {1, func(_ *bundle, c redis.Cmder) bool { return writes(c, state.Key("scan", realm)) }},
		"in the middle of a longer": {1300, func(_ *bundle, c redis.Cmder) bool { return writes(c, cursors) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := loaded(t, 12)
			b.clock.Advance(time.Hour)
			b.many("Invoice", tc.missing)
			b.clock.Advance(time.Hour)
			held := false
			r := b.heldUp(func(c redis.Cmder) bool { return tc.so(b, c) }, func() {
				held = true
				ctx := context.WithoutCancel(t.Context())
				// As Processor.enlist does it.
				require.NoError(t, b.store.RewindCursors(ctx, realm, nil, time.Time{}))
				_, err := b.store.RegisterSinks(ctx, []string{"late"})
				require.NoError(t, err)
				require.NoError(t, b.store.RewindCursors(ctx, realm, nil, time.Time{}))
			})
			b.request(r, reconciler.Request{Wait: true})
			require.True(t, held)
			b.feed.lateSink("late")
			other := b.reconciler()
			for range 3 {
				b.clock.Advance(24 * time.Hour)
				b.reconcile(other)
			}
			b.requireEqual()
			b.requireHonest()
		})
	}
}

// A load is held up before it notes how far it has come: for the sinks it knew.
func TestRewind_ALoadThatIsHeldUpKeepsNothingFromANewSink(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.many("Invoice", 6200) // progress is kept every five pages
	b.clock.Advance(time.Hour)
	held := false
	r := b.heldUp(func(c redis.Cmder) bool { return writes(c, state.Key("loaded", realm)) }, func() {
		held = true
		ctx := context.WithoutCancel(t.Context())
		require.NoError(t, b.store.RewindCursors(ctx, realm, nil, time.Time{}))
		_, err := b.store.RegisterSinks(ctx, []string{"late"})
		require.NoError(t, err)
		require.NoError(t, b.store.RewindCursors(ctx, realm, nil, time.Time{}))
	})
	b.request(r, reconciler.Request{})
	require.True(t, held)
	b.feed.lateSink("late")
	b.clock.Advance(24 * time.Hour)
	b.reconcile(b.reconciler())
	b.requireEqual()
}

// `cursor rewind` while a scan that was saved waits for its verification.
func TestRewind_AScanThatIsHeldUpDoesNotUndoWhatAPersonAsked(t *testing.T) {
	t.Parallel()
	b, _ := loaded(t, 12)
	b.clock.Advance(time.Hour)
	b.create("Invoice")
	b.clock.Advance(time.Hour)
	back := b.clock.Now().Add(-30 * time.Hour).Truncate(time.Second)
	held := false
	r := b.heldUp(func(c redis.Cmder) bool { return writes(c, state.Key("cur", realm), "Invoice") }, func() {
		held = true
		require.NoError(t, b.store.RewindCursors(context.WithoutCancel(t.Context()), realm, []string{"Invoice"}, back))
	})
	b.request(r, reconciler.Request{Wait: true})
	require.True(t, held)
	require.Equal(t, back, b.cursors()["Invoice"])
	b.reconcile(b.reconciler())
	require.True(t, b.cursors()["Invoice"].After(back))
}

// A replica takes over a scan that was saved before a rewind by one that was held up
// until after it.
func TestRewind_AnAdoptedScanOfBeforeMovesNothing(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 12)
	b.clock.Advance(time.Hour)
	b.create("Invoice")
	b.clock.Advance(time.Hour)
	b.feed.stop()
	require.Equal(t, 1, b.request(r, reconciler.Request{}).Unverified)
	saved := b.scans()[0]
	back := b.clock.Now().Add(-30 * time.Hour).Truncate(time.Second)
	require.NoError(t, b.store.RewindCursors(t.Context(), realm, nil, back))
	require.NoError(t, b.store.SaveScan(t.Context(), realm, saved))
	b.feed.start()
	defer runVerifier(t, b)()
	require.Eventually(t, func() bool { return len(b.scans()) == 0 }, patient, time.Millisecond)
	require.Equal(t, back, b.cursors()["Invoice"])
}
