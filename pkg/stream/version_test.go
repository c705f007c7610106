package stream_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// A server that is too old is refused at start, whatever is allowed, and is not ready.
func TestTopology_RefusesAServerThatIsTooOld(t *testing.T) {
	url := devtest.OldNATS(t)
	for _, allowed := range []bool{false, true} {
		c := connect(t, url, func(c *stream.Config) { c.AllowMismatch = allowed })
		err := c.EnsureTopology(t.Context())
		require.ErrorAs(t, err, new(*stream.MismatchError))
		require.ErrorContains(t, err, "is 2.10.29, and 2.12.0 or newer is needed: upgrade it")
		require.ErrorContains(t, c.Ready(t.Context()), "2.12.0 or newer is needed")
	}
}
