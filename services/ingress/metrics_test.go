package ingress_test

import (
	"maps"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

var (
	metricName     = regexp.MustCompile(`fqName: "([^"]+)"`)
	documentedName = regexp.MustCompile("`(ledgerfeed_(?:ingress|stream))?(_[a-z_]+)(?:\\{[a-z,]+\\})?`")
)

// The page lists all there is to watch, and nothing that is not there.
func TestMetrics_AreAsDocumented(t *testing.T) {
	b := setup(t)
	have := map[string]bool{}
	descs := make(chan *prometheus.Desc)
	go func() { b.registry.Describe(descs); close(descs) }()
	for d := range descs {
		have[metricName.FindStringSubmatch(d.String())[1]] = true
	}
	documented := map[string]bool{}
	component := ""
	for _, m := range documentedName.FindAllStringSubmatch(section(t, "Monitoring"), -1) {
		if m[1] != "" {
			component = m[1] // a name that begins with _ has that of the one before
		}
		documented[component+m[2]] = true
	}
	require.Empty(t, cmp.Diff(slices.Sorted(maps.Keys(have)), slices.Sorted(maps.Keys(documented))))

	problems, err := testutil.GatherAndLint(b.registry)
	require.NoError(t, err)
	require.Empty(t, problems)
}

// From what an idle broker takes to the moment Intuit gives up.
func TestMetrics_AckBucketsReachIntuitsPatience(t *testing.T) {
	b := setup(t)
	require.Equal(t, 200, b.post(event("1", "1"), oldToken).status)
	families, err := b.registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != "ledgerfeed_ingress_ack_seconds" {
			continue
		}
		h := f.GetMetric()[0].GetHistogram()
		require.EqualValues(t, 1, h.GetSampleCount())
		require.Equal(t, 0.005, h.GetBucket()[0].GetUpperBound())
		require.Equal(t, 3.0, h.GetBucket()[len(h.GetBucket())-1].GetUpperBound())
		return
	}
	t.Fatal("there is no ledgerfeed_ingress_ack_seconds")
}
