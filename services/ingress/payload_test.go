package ingress_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
)

const smallPayload = 64 << 10

// smallBroker takes the smallest messages that are allowed.
func smallBroker(t *testing.T) *bundle {
	t.Helper()
	return setupOn(t, devtest.StartNATS(t, devserver.NATSOptions{MaxPayload: smallPayload}).URL(), nil)
}

// Envelopes are cut to what the broker takes: none of their events is lost or put among
// the dead letters, and a repetition has the same ids.
func TestPayload_EnvelopesAreCutToFit(t *testing.T) {
	t.Parallel()
	b := smallBroker(t)
	var body bytes.Buffer
	body.WriteString("[")
	for i := range 450 {
		if i > 0 {
			body.WriteString(",")
		}
		e := event("310687", fmt.Sprintf("%0110d", i)) // as long as ids may be
		body.Write(e[1 : len(e)-1])
	}
	body.WriteString("]")
	for range 2 {
		require.Equal(t, 200, b.post(body.Bytes(), oldToken).status)
	}
	events := 0
	stored := b.stored()
	require.Greater(t, stored, 1)
	for _, env := range b.takes(stored) {
		require.Less(t, proto.Size(env), smallPayload)
		events += len(env.GetEvents())
	}
	require.Equal(t, 450, events)
	require.Empty(t, b.letters())
}

// One event that is larger than a message has a clear answer, and its bytes are kept.
func TestPayload_AnEventThatIsTooLargeIsKept(t *testing.T) {
	t.Parallel()
	b := smallBroker(t)
	body := event("310687", strings.Repeat("x", 2*smallPayload))
	require.Equal(t, 200, b.post(body, oldToken).status)
	var kept []byte
	for _, l := range b.letters() {
		require.Contains(t, l.Detail, "is longer than 128 bytes")
		kept = append(kept, l.Body...)
	}
	require.Equal(t, string(body[1:len(body)-1]), string(kept))
}
