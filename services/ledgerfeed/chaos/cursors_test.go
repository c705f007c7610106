package chaos

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

// A deletion is left out of the judgement only where CDC was cut off for certain.
func TestBooks_CrowdedIsWhatCDCCannotAnswer(t *testing.T) {
	now := time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
	sim, err := qbosim.New(qbosim.Options{Seed: 7, Now: func() time.Time { return now }, ClientID: clientID, ClientSecret: clientSecret})
	require.NoError(t, err)
	defer func() { require.NoError(t, sim.Close()) }()
	sim.AddRealm("1")
	b := &books{Sim: sim}
	create := func(entity string) {
		_, err := sim.Create("1", entity, nil)
		require.NoError(t, err)
	}
	create("Invoice")
	now = now.Add(time.Hour)
	from := now
	for range qbo.MaxObjects - 1 {
		create("Invoice")
		create("Bill")
	}
	to := now.Add(time.Minute)
	require.False(t, b.crowded("1", "Invoice", from, to))
	create("Invoice")
	require.True(t, b.crowded("1", "Invoice", from, to))
	require.True(t, b.crowded("1", "Invoice", time.Time{}, to))
	require.False(t, b.crowded("1", "Bill", from, to))
	require.False(t, b.crowded("1", "Invoice", from, from.Add(-time.Hour)))
}
