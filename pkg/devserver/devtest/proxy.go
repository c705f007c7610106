package devtest

import (
	"testing"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/faultproxy"
)

// Proxy is a TCP proxy in front of a server, to break the network at a chosen
// moment.
type Proxy = faultproxy.Proxy

// NewProxy starts a proxy for target, a host:port, that lives as long as the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := faultproxy.Start(t.Context(), target, nil)
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	t.Cleanup(p.Close)
	return p
}
