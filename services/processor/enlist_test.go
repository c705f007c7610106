package processor_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
)

// Redis loses all it had while the processor runs: scans find its sinks again without
// anybody's help. Chaos run, seed 6: no scan was ever made again.
func TestProcessor_SinksAreKnownAgainAfterRedisLostThem(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.start()
	known := func() bool {
		sinks, err := b.store.Sinks(t.Context())
		return err == nil && len(sinks) > 0
	}
	require.Eventually(t, known, patient, 10*time.Millisecond)
	require.NoError(t, b.store.Redis().FlushDB(t.Context()).Err())
	require.Eventually(t, known, patient, 50*time.Millisecond)
}

// Redis went back to a file of before sink b was added, or has lost it alone.
func TestProcessor_ASinkThatRedisForgotAloneIsKnownAgain(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]func(*bundle){
		"the set of sinks": func(*bundle) {},
		"the registration as well": func(b *bundle) {
			require.NoError(b.t, b.store.Redis().Del(b.t.Context(), "lf:1:registered:{lf:1:sinks}").Err())
		},
		"it is of before": func(b *bundle) {
			require.NoError(b.t, b.store.SetRegistration(b.t.Context(), state.Registration{Config: "older", Filters: map[string]string{"a": ""}}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			p := b.start()
			b.settle(p)
			cursor := map[string]time.Time{"Bill": b.clock.Now().Truncate(time.Second)}
			require.NoError(t, b.store.AdvanceCursors(t.Context(), realm, cursor))
			require.NoError(t, b.store.Redis().SRem(t.Context(), "lf:1:sinks", "b").Err())
			forget(b)
			require.Eventually(t, func() bool {
				known, err := b.store.Sinks(t.Context())
				return err == nil && slices.Equal(known, []string{"a", "b"})
			}, patient, 20*time.Millisecond, "scans compare with sink a alone, and cursors say so")
			require.Eventually(t, func() bool {
				cursors, err := b.store.Cursors(t.Context(), realm)
				return err == nil && len(cursors) == 0
			}, patient, 20*time.Millisecond, "what was delivered meanwhile is compared with b, too")
		})
	}
}

// A rolling upgrade that takes sink b away: the replica that is left of before does not
// bring it back, unless the upgrade is taken back.
func TestProcessor_ASinkThatWasTakenAwayStaysAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.rememberEvery = time.Hour // they look when they are told to
	old := b.start()
	b.settle(old)
	both := b.b
	o := b.options()
	o.Sinks = []processor.Sink{b.a}
	known := func() []string {
		names, err := b.store.Sinks(t.Context())
		require.NoError(t, err)
		return names
	}
	// The one that registers last has the newer configuration.
	var before state.Registration
	require.Eventually(t, func() bool {
		// The registration follows the names: until then there is none.
		var err error
		before, err = b.store.Registration(t.Context())
		return err == nil && before.Config != "" && slices.Equal(known(), []string{"a", "b"})
	}, patient, 10*time.Millisecond)
	upgraded := b.run(o)
	require.Eventually(t, func() bool {
		last, err := b.store.Registration(t.Context())
		return err == nil && last.Config != before.Config && slices.Equal(known(), []string{"a"})
	}, patient, 10*time.Millisecond)
	require.NoError(t, old.EnlistAgain(t.Context()))
	require.Equal(t, []string{"a"}, known())
	require.NoError(t, upgraded.EnlistAgain(t.Context()))
	require.NoError(t, old.EnlistAgain(t.Context()))
	require.Equal(t, []string{"a"}, known())

	upgraded.stop()
	require.NoError(t, old.EnlistAgain(t.Context()))
	require.Equal(t, []string{"a", "b"}, known())
	require.Equal(t, "b", both.Name())
}

// A crash between the registration of a sink and the rewind that follows it.
func TestProcessor_ANewSinkIsLoadedThoughItsRegistrationWasBrokenOff(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := newMemory("c")
	p := b.start()
	require.Eventually(t, func() bool {
		last, err := b.store.Registration(t.Context())
		return err == nil && last.Config != ""
	}, patient, time.Millisecond)
	p.stop()
	_, err := b.store.RegisterSinks(t.Context(), []string{"c"})
	require.NoError(t, err)
	require.NoError(t, b.store.AdvanceCursors(t.Context(), realm, map[string]time.Time{"Bill": b.clock.Now()})) // by a scan that knew nothing of c
	o := b.options()
	o.Sinks = append(o.Sinks, c)
	b.run(o)
	require.Eventually(t, func() bool {
		cursors, err := b.store.Cursors(t.Context(), realm)
		return err == nil && len(cursors) == 0
	}, patient, 10*time.Millisecond)
}
