package dev

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

// quickbooks is the simulator that dev runs with these options, filled.
func quickbooks(t *testing.T, edit func(*Options)) (*simulator, string) {
	t.Helper()
	o := DefaultOptions()
	edit(&o)
	require.NoError(t, o.Validate())
	data, err := openDataDir(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, data.Close()) })
	s, err := startSimulator(t.Context(), o, data, zaptest.NewLogger(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Shutdown(t.Context())) })
	realms, err := data.realmIDs(1)
	require.NoError(t, err)
	_, err = s.found(realms)
	require.NoError(t, err)
	s.SetWebhookURL("http://127.0.0.1:1") // subscribed, never sent
	s.Connect(realms[0])
	return s, realms[0]
}

func TestSimulator_FlagsAreItsFaults(t *testing.T) {
	s, realm := quickbooks(t, func(o *Options) { o.Lag, o.WrongDeletes, o.Derived = 30*time.Second, 0.2, 0.5 })
	f := s.Faults()
	require.Equal(t, 30*time.Second, f.ReplicaLag)
	require.Positive(t, f.FutureDeletes)
	for range 200 {
		_, err := s.Step(realm)
		require.NoError(t, err)
	}
	require.InDelta(t, 40, s.Stats().WebhookEventsForged, 25)
	derived, silent, accounts := 0, 0, 0
	for ref := range s.Truth(realm) {
		history := s.History(ref)
		for n, state := range history {
			if !state.Derived {
				continue
			}
			if derived++; state.LastUpdated.Equal(history[n-1].LastUpdated) {
				silent++
			}
			if ref.Entity == "Account" {
				accounts++
			}
		}
	}
	require.InDelta(t, 60, derived, 40)
	require.Positive(t, silent)
	require.Positive(t, accounts)

	s.endLag()
	f.ReplicaLag = 0
	require.Equal(t, f, s.Faults(), "the other faults stay")
}

// What is unselected makes no webhook, from the given time of the load on.
func TestSimulator_UnselectsEventTypes(t *testing.T) {
	s, realm := quickbooks(t, func(o *Options) {
		o.Unselected = []qbosim.Unselected{{Entity: "Customer", Operation: "Create"}, {Entity: "Vendor", Operation: "Create", After: time.Hour}}
	})
	for _, name := range []string{"Customer", "Vendor"} {
		_, err := s.Create(realm, name, nil)
		require.NoError(t, err)
	}
	require.Equal(t, 1, s.Stats().WebhookEventsUnselected)
	require.Equal(t, []string{"customer.create", "vendor.create@1h0m0s"}, eventTypes(s.Unselected()))
	require.NotNil(t, eventTypes(nil), "JSON shows a list")
}

func TestSimulator_IsKindWithoutFlags(t *testing.T) {
	s, realm := quickbooks(t, func(*Options) {})
	for range 200 {
		_, err := s.Step(realm)
		require.NoError(t, err)
	}
	require.Zero(t, s.Faults().ReplicaLag)
	require.Zero(t, s.Stats().WebhookEventsForged)
	entities := map[string]bool{}
	for ref := range s.Truth(realm) {
		entities[ref.Entity] = true
		for _, state := range s.History(ref) {
			require.False(t, state.Derived)
		}
	}
	require.Len(t, entities, 42, "a company uses all entities")
}

func TestOptions_RefuseFaultsOutOfRange(t *testing.T) {
	for want, edit := range map[string]func(*Options){
		"--lag -1s":          func(o *Options) { o.Lag = -time.Second },
		"--lag 1h0m0s":       func(o *Options) { o.Lag = time.Hour },
		"--wrong-deletes 2":  func(o *Options) { o.WrongDeletes = 2 },
		"--wrong-deletes -1": func(o *Options) { o.WrongDeletes = -1 },
		"--derived 1.5":      func(o *Options) { o.Derived = 1.5 },
	} {
		o := DefaultOptions()
		edit(&o)
		require.ErrorContains(t, o.Validate(), want)
	}
	o := DefaultOptions()
	require.False(t, o.misleading())
	for _, edit := range []func(*Options){
		func(o *Options) { o.Lag = time.Second }, func(o *Options) { o.WrongDeletes = 0.01 }, func(o *Options) { o.Derived = 0.01 },
	} {
		o := DefaultOptions()
		edit(&o)
		require.True(t, o.misleading())
		require.NoError(t, o.Validate())
	}
}
