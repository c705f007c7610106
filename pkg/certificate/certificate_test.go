package certificate_test

import (
	"crypto/x509"
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
		{name: "full chain with its root", leaf: a.Whole(now.Add(-day), now.Add(30*day)), ok: true},
		{name: "private authority", leaf: other.Whole(now.Add(-day), now.Add(30*day)), want: []certificate.Kind{certificate.Private}},
		{name: "no root, and not a public one", leaf: other.Leaf(now.Add(-day), now.Add(30*day)), want: []certificate.Kind{certificate.Incomplete}},
		{name: "an intermediate that expired", leaf: a.Lapsed(now.Add(-day), now.Add(30*day)), want: []certificate.Kind{certificate.Expired}},
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

func TestCheck_SaysWhatToDo(t *testing.T) {
	a := certificatetest.New(t)
	now := time.Now()
	from, to := now.Add(-time.Hour), now.Add(1000*time.Hour)
	for _, tc := range []struct {
		name  string
		chain []*x509.Certificate
		roots *x509.CertPool
		want  string
	}{
		{"which is missing and where it is", a.Incomplete(from, to).Chain, a.Roots(), `append the certificate of "CN=test intermediate" to the file, from http://127.0.0.1/issuer.crt`},
		{"which is the last that is there", a.Leaf(from, to).Chain, certificatetest.New(t).Roots(), `append the certificate of "CN=test root" to the file`},
		{"which authority is not public", a.Whole(from, to).Chain, certificatetest.New(t).Roots(), `the authority "CN=test root" is not a public one`},
		{"which of them expired", a.Lapsed(from, to).Chain, a.Roots(), `the intermediate certificate "CN=lapsed intermediate" expired on`},
		{"without a list of authorities", a.Leaf(from, to).Chain, x509.NewCertPool(), "ca-certificates"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			problems := certificate.Check(tc.chain, tc.roots, now)
			require.Len(t, problems, 1)
			require.Contains(t, problems[0].Text, tc.want)
			require.NotContains(t, problems[0].Text, "\n")
		})
	}
}
