package devserver

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// NATSOptions say where the embedded NATS server keeps its streams.
type NATSOptions struct {
	// Dir holds the streams; it is created if missing. Only one server at a time
	// may use it.
	Dir string
	// Listen is the loopback address, "127.0.0.1:0" (any free port, [::1] where there is no
	// IPv4) if empty.
	Listen string
	// SyncAlways syncs every message to disk before it is acknowledged. Without
	// it a crash of the machine (not of the process) loses the last two minutes.
	SyncAlways bool
	// MaxPayload is the largest message in bytes; 0 is [MaxPayload].
	MaxPayload int32
	// Monitor opens the monitoring endpoint on a free port, see MonitorURL.
	Monitor bool
}

// NATS is a running NATS server with JetStream.
type NATS struct {
	server *server.Server
	lock   *os.File
}

// MaxPayload is the largest message the embedded server takes; a dead letter
// carries a whole webhook body.
const MaxPayload = 8 << 20

// MaxStore is what the streams of a server here may hold together, in bytes.
// NATS's own limit is three quarters of the free disk, and it counts what a
// stream may hold, not what it holds: beside a full disk nothing would start.
const MaxStore = 1 << 40

const readyWithin = 20 * time.Second

// StartNATS starts a server and returns when it takes connections. Close it.
func StartNATS(o NATSOptions) (*NATS, error) {
	host, port, err := loopback(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	if err := writable(o.Dir); err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	lock, err := lockFile(filepath.Join(o.Dir, "ledgerfeed.lock"))
	if err != nil {
		return nil, fmt.Errorf("start NATS: directory %s: %w", o.Dir, err)
	}
	n, err := startNATS(o, host, port)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	n.lock = lock
	return n, nil
}

func startNATS(o NATSOptions, host string, port int) (*NATS, error) {
	// The server reports a port in use to its log only: it is asked for first.
	probe, err := listen(host, port)
	if err != nil {
		return nil, err
	}
	probe.Close()
	if port == 0 {
		port = server.RANDOM_PORT
	}
	monitor := 0 // none
	if o.Monitor {
		monitor = server.RANDOM_PORT
	}
	s, err := server.NewServer(&server.Options{
		ServerName: "ledgerfeed-dev",
		HTTPHost:   host,
		HTTPPort:   monitor,
		Host:       host,
		Port:       port,
		JetStream:  true,
		StoreDir:   o.Dir,
		SyncAlways: o.SyncAlways,

		JetStreamMaxStore: MaxStore,

		MaxPayload: cmp.Or(o.MaxPayload, MaxPayload),
		NoSigs:     true,
		NoLog:      true,
	})
	if err != nil {
		return nil, err
	}
	var log complaint
	s.SetLoggerV2(&log, false, false, false)
	s.Start()
	if !s.ReadyForConnections(readyWithin) || !s.JetStreamEnabled() {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, fmt.Errorf("not ready with its streams in %s: %s", o.Dir, log.last())
	}
	return &NATS{server: s}, nil
}

// URL is where clients connect to.
func (n *NATS) URL() string { return n.server.ClientURL() }

// MonitorURL is the monitoring endpoint; empty unless asked for.
func (n *NATS) MonitorURL() string {
	if a := n.server.MonitorAddr(); a != nil {
		return "http://" + a.String()
	}
	return ""
}

// Close stops the server and returns when it has stopped. Closing twice is safe.
func (n *NATS) Close() {
	n.server.Shutdown()
	n.server.WaitForShutdown()
	n.lock.Close()
}

// complaint is a server.Logger that keeps the last error: the only way to learn
// why a server does not come up. What it says later nobody needs, clients see
// the consequences.
type complaint struct {
	mu   sync.Mutex
	text string
}

func (c *complaint) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return cmp.Or(c.text, "the server does not say why")
}

func (c *complaint) Errorf(format string, v ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = fmt.Sprintf(format, v...)
}

func (c *complaint) Fatalf(format string, v ...any) { c.Errorf(format, v...) }
func (c *complaint) Noticef(string, ...any)         {}
func (c *complaint) Warnf(string, ...any)           {}
func (c *complaint) Debugf(string, ...any)          {}
func (c *complaint) Tracef(string, ...any)          {}
