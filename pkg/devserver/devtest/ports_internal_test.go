package devtest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Servers that start at the same time never share a port: one of the tests would talk to
// the server of the other.
func TestPorts_AreHandedOutOnce(t *testing.T) {
	seen := map[int]bool{}
	for range 200 {
		port := FreePort(t)
		require.False(t, seen[port], port)
		require.False(t, claim(port), "another process finds it free")
		seen[port] = true
	}
}
