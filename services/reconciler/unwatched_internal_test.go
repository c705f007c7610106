package reconciler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

func TestSilences_BetweenBeats(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, tc := range []struct {
		name string
		ages []time.Duration
		all  []silence
		last time.Duration
	}{
		{"none", nil, nil, 100 * s},
		{"always there", []time.Duration{90 * s, 65 * s, 40 * s, 10 * s}, nil, 10 * s},
		{"away at first", []time.Duration{60 * s, 40 * s, 20 * s}, []silence{{100 * s, 60 * s}}, 20 * s},
		{"away between", []time.Duration{90 * s, 20 * s, 5 * s}, []silence{{90 * s, 20 * s}}, 5 * s},
		{"away twice", []time.Duration{90 * s, 50 * s, 10 * s}, []silence{{90 * s, 50 * s}, {50 * s, 10 * s}}, 10 * s},
		{"away at the end", []time.Duration{90 * s, 70 * s, 50 * s}, nil, 50 * s},
		{"one since the question", []time.Duration{80 * s, 60 * s, 35 * s, 10 * s, -2 * s}, nil, 0},
		{"two replicas whose beats came out of order", []time.Duration{80 * s, 82 * s, 60 * s, 35 * s, 10 * s}, nil, 10 * s},
	} {
		t.Run(tc.name, func(t *testing.T) {
			all, last := silences(stream.Heartbeats{Ages: tc.ages}, 100*s, 30*s)
			require.Equal(t, tc.all, all)
			require.Equal(t, tc.last, last)
		})
	}
}
