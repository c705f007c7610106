package config_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
)

func TestExplain_SaysTheValueAndItsSource(t *testing.T) {
	file := write(t, "lf.yaml", "ingress:\n  listen: :1\n  budget: 2s\n")
	cfg := defaults()
	values, err := config.Explain(&cfg, file, []string{
		"LEDGERFEED_INGRESS_BUDGET=3s", "LEDGERFEED_REDIS_KEYS=k1,k2",
		"LEDGERFEED_INGRESS_NAMES=postgres://u:s3c/r@t@db/x?p=s3cret,host=db password='s3 cret' user=u",
	})
	require.NoError(t, err)
	got := map[string]config.Value{}
	for _, v := range values {
		got[v.Key] = v
		require.NotContains(t, v.Value, "s3")
		require.NotContains(t, v.Value, "k1")
	}
	for _, want := range []config.Value{
		{Key: "ingress.listen", Env: "LEDGERFEED_INGRESS_LISTEN", Value: ":1", Source: file + ": ingress.listen"},
		{Key: "ingress.budget", Env: "LEDGERFEED_INGRESS_BUDGET", Value: "3s", Source: "LEDGERFEED_INGRESS_BUDGET"},
		{Key: "ingress.max_body", Env: "LEDGERFEED_INGRESS_MAX_BODY", Value: "0", Source: config.Default},
		{Key: "redis.url", Env: "LEDGERFEED_REDIS_URL", Value: "[REDACTED]", Source: config.Default},
		{Key: "redis.keys", Env: "LEDGERFEED_REDIS_KEYS", Value: "[REDACTED]", Source: "LEDGERFEED_REDIS_KEYS"},
	} {
		require.Empty(t, cmp.Diff(want, got[want.Key]))
	}
	require.Equal(t, "postgres://u:[REDACTED]@db/x?[REDACTED],host=db password=[REDACTED] user=u", got["ingress.names"].Value)

	values, err = config.Explain(&cfg, "", []string{"LEDGERFEED_INGRESS_LISTN=:1"})
	require.ErrorContains(t, err, "LEDGERFEED_INGRESS_LISTN")
	require.NotEmpty(t, values, "they are shown beside the error")
}
