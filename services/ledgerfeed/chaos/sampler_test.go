package chaos

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What grows over a long run is a problem, what restarts take is not.
func TestSampler_AFlatRunIsFlat(t *testing.T) {
	begin := time.Date(2026, 11, 27, 4, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name    string
		kib     func(minute int) int
		minutes int // minutes
		want    []string
	}{
		{"flat", func(int) int { return 60_000 }, 60, nil},
		{"restarted now and then", func(m int) int { return 20_000 + 40_000*min(m%7, 1) }, 60, nil},
		{"growing", func(m int) int { return 40_000 + 2_000*m }, 60, []string{"processor-1 went from 76000 to 148000 KiB"}},
		{"growing for too short a time to tell", func(m int) int { return 40_000 + 20_000*m }, 8, nil},
		{"too much", func(int) int { return 600 << 10 }, 60, []string{"processor-1 had 614400 KiB"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSampler(nil)
			for m := range tc.minutes {
				s.seen["processor-1"] = append(s.seen["processor-1"], Usage{At: begin.Add(time.Duration(m) * time.Minute), ResidentKiB: tc.kib(m)})
			}
			tried, problems := s.verdict()
			require.True(t, tried)
			require.Equal(t, tc.want, problems)
		})
	}
	tried, _ := newSampler(nil).verdict()
	require.False(t, tried)
}
