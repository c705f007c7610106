package certificate_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/certificate"
	"github.com/ledgerfeed/ledgerfeed/pkg/certificate/certificatetest"
)

func TestCheck_SaysWhatIntuitRefuses(t *testing.T) {
	a, other := certificatetest.New(t), certificatetest.New(t)
	now := time.Now()
	day := 24 * time.Hour
	for _, tc := range []struct {
		name string
		leaf certificatetest.Leaf
		want []certificate.Kind
		ok   bool // Intuit takes it
	}{
		{name: "full chain", leaf: a.Leaf(now.Add(-day), now.Add(30*day)), ok: true},
		{name: "no intermediate", leaf: a.Incomplete(now.Add(-day), now.Add(30*day)), want: []certificate.Kind{certificate.Incomplete}},
		{name: "private authority", leaf: other.Leaf(now.Add(-day), now.Add(30*day)), want: []certificate.Kind{certificate.Incomplete}},
		{name: "self-signed", leaf: a.SelfSigned(now.Add(-day), now.Add(30*day)), want: []certificate.Kind{certificate.SelfSigned}},
		{name: "expired", leaf: a.Leaf(now.Add(-2*time.Minute), now.Add(-time.Minute)), want: []certificate.Kind{certificate.Expired}},
		{name: "expires soon", leaf: a.Leaf(now.Add(-day), now.Add(20*day)), want: []certificate.Kind{certificate.Expiring}, ok: true},
		{name: "not yet", leaf: a.Leaf(now.Add(time.Minute), now.Add(30*day)), want: []certificate.Kind{certificate.NotYet}},
		{name: "expired and incomplete", leaf: a.Incomplete(now.Add(-2*time.Minute), now.Add(-time.Minute)), want: []certificate.Kind{certificate.Expired, certificate.Incomplete}},
		{name: "none", leaf: certificatetest.Leaf{}, want: []certificate.Kind{certificate.Invalid}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var kinds []certificate.Kind
			ok := true
			for _, p := range certificate.Check(tc.leaf.Chain, a.Roots(), now) {
				kinds = append(kinds, p.Kind)
				require.NotEmpty(t, p.Text)
				ok = ok && !p.Refused()
			}
			require.Equal(t, tc.want, kinds)
			require.Equal(t, tc.ok, ok)
		})
	}
}
