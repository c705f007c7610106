package reconciler

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What only Query can find is scanned once an interval; where our clock is behind
// Intuit's, so that nobody knows when that was, with each scan.
func TestPlan_WhenQueryIsAsked(t *testing.T) {
	now := time.Date(2026, 11, 27, 6, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name   string
		cursor time.Time
		order  order
		asked  bool
	}{
		{"never loaded", time.Time{}, order{}, true},
		{"just scanned", now.Add(-margin), order{}, false},
		{"within the interval", now.Add(-6 * 24 * time.Hour), order{}, false},
		{"an interval ago", now.Add(-7*24*time.Hour - margin), order{}, true},
		{"just scanned, all is wanted", now.Add(-margin), order{everything: true}, true},
		{"ahead of our clock", now.Add(time.Minute), order{}, true},
		{"hours ahead of our clock", now.Add(3 * time.Hour), order{}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &scan{r: &Reconciler{config: DefaultReconcilerConfig(), now: func() time.Time { return now }}, cursors: map[string]time.Time{}}
			if !tc.cursor.IsZero() {
				s.cursors["TimeActivity"] = tc.cursor
			}
			asked := slices.ContainsFunc(s.plan(tc.order), func(f *finding) bool { return f.entity == "TimeActivity" })
			require.Equal(t, tc.asked, asked)
		})
	}
}
