package reconciler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

func TestLoss_SaysWhatAndSinceWhen(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	born := now.Add(-24 * time.Hour)
	before := state.Position{Created: born.Format(time.RFC3339Nano), Last: 100, Safe: now.Add(-time.Minute)}
	for _, tc := range []struct {
		name   string
		before state.Position
		p      stream.Position
		from   time.Time // zero: nothing is lost
		detail string
	}{
		{"first look", state.Position{}, stream.Position{Created: born}, time.Time{}, ""},
		{"nothing new", before, stream.Position{Created: born, Last: 100}, time.Time{}, ""},
		{"more", before, stream.Position{Created: born, Last: 700}, time.Time{}, ""},
		{"another stream", before, stream.Position{Created: now, Last: 700}, before.Safe, "was recreated"},
		{"its tail is gone", before, stream.Position{Created: born, Last: 40, Newest: now.Add(-30 * time.Second)}, now.Add(-30 * time.Second), "is 40 and was 100"},
		{"all is gone", before, stream.Position{Created: born}, before.Safe, "is 0 and was 100"},
		{"older than it should be", before, stream.Position{Created: born, Last: 40, Newest: now.Add(-time.Hour)}, before.Safe, "is 40 and was 100"},
		{"a broken block", before, stream.Position{Created: born, Last: 100, Lost: 7}, before.Safe, "cannot read 7"},
		{"known to be broken", state.Position{Created: before.Created, Last: 100, Lost: 7}, stream.Position{Created: born, Last: 100, Lost: 7}, time.Time{}, ""},
		{"a clock that is ahead", before, stream.Position{Created: born, Last: 40, Newest: now.Add(time.Hour)}, now, "is 40"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o, lost := loss(tc.before, tc.p, now)
			require.Equal(t, !tc.from.IsZero(), lost)
			if lost {
				require.Equal(t, state.OutageBroker, o.Kind)
				require.Equal(t, tc.from, o.From)
				require.Equal(t, now, o.To)
				require.Contains(t, o.Detail, tc.detail)
			}
		})
	}
}
