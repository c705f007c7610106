package stream

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDurability_OldServers(t *testing.T) {
	for _, tc := range []struct {
		profile Profile
		version string
		bad     bool
	}{
		{Single, "2.11.9", true},
		{Single, "2.12.0", false},
		{SingleRelaxed, "2.9.1", true},
		{Cluster, "2.14.7", true},
		{Cluster, "2.15.0", false},
		{Cluster, "2.15.0-RC.1", true},
		{Cluster, "3.0.0", false},
	} {
		d := Durability{Profile: tc.profile}
		d.check(Server{Name: "n1", Version: tc.version, Sync: syncAlways})
		require.Equal(t, tc.bad, len(d.Problems) == 1, "%s on %s: %v", tc.profile, tc.version, d.Problems)
	}
}

func TestConfig_MonitorsAreTheServersOwnUnlessNamed(t *testing.T) {
	c := Config{URL: "nats://a:4222, tls://[::1]:4333"}
	require.Equal(t, []string{"http://a:8222", "http://[::1]:8222"}, c.monitors())
	c.MonitorURL = "http://x:1, http://y:2"
	require.Equal(t, []string{"http://x:1", "http://y:2"}, c.monitors())
}
