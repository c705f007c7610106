package reconciler

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

var began = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func TestPaced_AveragesByTime(t *testing.T) {
	t.Parallel()
	first := paced(state.Pace{}, began, 5000, true)
	require.Empty(t, cmp.Diff(state.Pace{Scanned: began, Full: began, Changed: began}, first), "how long it took is not known")

	busy := paced(first, began.Add(day), 3000, false)
	require.Equal(t, began, busy.Full)
	require.Equal(t, began.Add(day), busy.Changed)
	require.InDelta(t, 3000, busy.PerDay, 100)

	quiet := paced(busy, began.Add(2*day), 0, false)
	require.Equal(t, began.Add(day), quiet.Changed)
	require.Less(t, quiet.PerDay, 100)

	// A scan that somebody asked for a moment later says little.
	moment := paced(quiet, began.Add(2*day+time.Second), 2, false)
	require.InDelta(t, quiet.PerDay, moment.PerDay, 20)
	same := paced(quiet, began.Add(2*day), 7, false)
	require.Equal(t, quiet.PerDay, same.PerDay)
}

func TestInterval_AimsAtSome300ChangesAScan(t *testing.T) {
	t.Parallel()
	r := &Reconciler{config: DefaultReconcilerConfig()}
	for perDay, want := range map[int]time.Duration{
		0: day, 100: day, 300: day, 600: 12 * time.Hour, 7200: time.Hour, 86400: 5 * time.Minute, 1e9: 5 * time.Minute,
	} {
		require.Equal(t, want, r.interval(t.Context(), state.Pace{PerDay: perDay}), perDay)
	}
	usage := state.Usage{Budget: 1000, Forecast: 2700}
	r.usage = func(context.Context) (state.Usage, error) { return usage, nil }
	require.Equal(t, 3*time.Hour, r.interval(t.Context(), state.Pace{PerDay: 7200}), "the month's calls would not last")
	require.Equal(t, day, r.interval(t.Context(), state.Pace{PerDay: 600}), "once a day it is scanned all the same")
	usage.Forecast = 10
	require.Equal(t, time.Hour, r.interval(t.Context(), state.Pace{PerDay: 7200}))
}

// A realm without a token for a while is scanned when there may be one.
func TestNext_WaitsForTheToken(t *testing.T) {
	t.Parallel()
	r := &Reconciler{config: DefaultReconcilerConfig()}
	for _, wait := range []time.Duration{20 * time.Second, 30 * time.Minute} {
		err := fmt.Errorf("query: %w", &connection.WaitError{RealmID: "1", Delay: wait, Err: connection.ErrOtherClient})
		require.Equal(t, wait, r.next(t.Context(), "1", outcome{err: err}))
		require.True(t, fatal(t.Context(), err), "no entity can be read")
	}
}

func TestQuietInterval_GrowsWithTheQuiet(t *testing.T) {
	t.Parallel()
	r := &Reconciler{config: DefaultReconcilerConfig()}
	for quiet, want := range map[time.Duration]time.Duration{
		0: day, 29 * day: day, 30 * day: 3 * day, 100 * day: 10 * day, 250 * day: 25 * day, 1000 * day: 25 * day,
	} {
		require.Equal(t, want, r.quietInterval(state.Pace{Scanned: began, Changed: began.Add(-quiet)}), quiet)
	}
	require.Equal(t, day, r.quietInterval(state.Pace{Scanned: began}), "nothing is known of it")
	r.config.DormantInterval = 0
	require.Equal(t, day, r.quietInterval(state.Pace{Scanned: began, Changed: began.Add(-100 * day)}))
}
