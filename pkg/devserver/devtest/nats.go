package devtest

import (
	"os"
	"testing"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
)

// NATS starts a NATS server with JetStream in this process, its streams in a
// directory of the test, and returns its URL. With NATS_URL set that server is
// used instead, whatever it holds already.
func NATS(t testing.TB) string {
	t.Helper()
	if url := os.Getenv("NATS_URL"); url != "" {
		t.Logf("devtest: NATS at %s (NATS_URL)", url)
		return url
	}
	n, err := devserver.StartNATS(devserver.NATSOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	t.Cleanup(n.Close)
	t.Logf("devtest: NATS in process at %s", n.URL())
	return n.URL()
}
