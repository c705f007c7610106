package devtest

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// oldNATS is a version of nats-server that lacks what Ledgerfeed needs. make test builds
// it.
const oldNATS = "nats-server-v2.10.29"

// OldNATS starts a nats-server of 2.10 with JetStream and returns its URL.
func OldNATS(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	binary := filepath.Join(cache, "ledgerfeed", oldNATS)
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("devtest: %s is not built: run `.ci/servers` at the top of the repository", binary)
	}
	var p *process
	var url string
	err = onFreePort(func(port int) error {
		var err error
		dir := t.TempDir()
		p, err = start(spec{
			binary: binary, args: []string{"-a", "127.0.0.1", "-p", strconv.Itoa(port), "-js", "-sd", filepath.Join(dir, "store")},
			dir: dir, signal: syscall.SIGKILL,
		})
		if err != nil {
			return err
		}
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		url = "nats://" + address
		return p.untilListening(address)
	})
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	t.Cleanup(p.stop)
	t.Logf("devtest: %s at %s", oldNATS, url)
	return url
}
