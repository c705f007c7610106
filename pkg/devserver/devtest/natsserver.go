package devtest

import (
	"net/url"
	"testing"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
)

// NATSServer is a NATS server in this process that a test can stop and start
// again.
type NATSServer struct {
	t       testing.TB
	options devserver.NATSOptions
	url     string
	server  *devserver.NATS // nil while stopped
}

// StartNATS is [NATS] for tests of what happens when the broker goes away; it
// pays no heed to NATS_URL. Of the options Dir and Listen are filled in.
func StartNATS(t testing.TB, o devserver.NATSOptions) *NATSServer {
	t.Helper()
	o.Dir, o.Listen = t.TempDir(), ""
	s := &NATSServer{t: t, options: o}
	s.Start()
	u, err := url.Parse(s.server.URL())
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	s.url, s.options.Listen = u.String(), u.Host
	t.Cleanup(s.Stop)
	t.Logf("devtest: NATS in process at %s", s.url)
	return s
}

// URL is where clients connect to; it stays the same over restarts.
func (s *NATSServer) URL() string { return s.url }

// Addr is URL as host:port.
func (s *NATSServer) Addr() string { return s.options.Listen }

// Stop ends the server and returns when it is gone; its streams stay. Stopping a
// stopped one is safe.
func (s *NATSServer) Stop() {
	if s.server != nil {
		s.server.Close()
		s.server = nil
	}
}

// Start starts it again on the same port with the streams it had, and returns
// when it takes connections.
func (s *NATSServer) Start() {
	s.t.Helper()
	if s.server != nil {
		return
	}
	n, err := devserver.StartNATS(s.options)
	if err != nil {
		s.t.Fatalf("devtest: %v", err)
	}
	s.server = n
}
