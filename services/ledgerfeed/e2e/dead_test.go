package e2e_test

import (
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

const (
	intuitToken     = "b5771f19b12ddb4bcdb9f08bdc50bc63878a"
	intuitSignature = "JC2GUwciPmRBwEO7WvrRmKqu9tGOKL8FFallocTFi8Q="
)

// A body that Intuit signed, about a realm nobody connected, is taken, ends in
// the dead letters with the reason, and holds up nothing.
func TestDev_UnknownRealmIsADeadLetter(t *testing.T) {
	t.Parallel()
	p := startDev(t, t.TempDir(), "--verifier-token", intuitToken, "--rate", "20")
	url := p.field("ingress")

	sent := exec.Command("ledgerfeed", "send", "--url", url, "--signature", intuitSignature, "testdata/intuit_signed_body.json")
	out, err := sent.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "200 OK in ")

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cfg := stream.DefaultConfig()
	cfg.URL = p.field("nats")
	conn, err := stream.Connect(ctx, stream.Options{Config: cfg, Name: "test", Logger: zaptest.NewLogger(t)})
	require.NoError(t, err)
	defer conn.Close()
	var letters []stream.DeadLetter
	require.Eventually(t, func() bool {
		letters, err = conn.DeadLetters(ctx, 10)
		return err == nil && len(letters) > 0
	}, time.Minute, 50*time.Millisecond)
	require.Equal(t, stream.ReasonRealmNotConnected, letters[0].Reason)
	require.Equal(t, "realm not connected", letters[0].Reason.String())

	before := p.lastStatus()
	require.Eventually(t, func() bool { return p.lastStatus() > before }, time.Minute, 50*time.Millisecond, "the feed goes on")
	p.signal(syscall.SIGTERM)
	require.Zero(t, p.code())
}

// lastStatus is the number of deliveries in the newest status line.
func (p *process) lastStatus() int {
	p.t.Helper()
	_, rest, ok := cutLast(p.stdout.String(), "· delivered ")
	if !ok {
		return 0
	}
	var n int
	number, _, _ := strings.Cut(rest, " ")
	require.NoError(p.t, json.Unmarshal([]byte(number), &n))
	return n
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
