package config_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

func TestChanged_NamesWhatDiffers(t *testing.T) {
	before, after := defaults(), defaults()
	require.Empty(t, config.Changed(&before, &after))

	after.internal++
	after.Redis.Keys = []secret.String{"one"}
	after.Ingress.Names = []string{"b", "a"}
	after.Ingress.Limits.InFlight = 1
	require.Empty(t, cmp.Diff([]string{"ingress.names", "ingress.limits.in_flight", "redis.keys"}, config.Changed(&before, &after)))
}
