package devserver

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// NATSOptions say where the embedded NATS server keeps its streams.
type NATSOptions struct {
	// Dir holds the streams; it is created if missing. Only one server at a time
	// may use it.
	Dir string
	// Listen is the loopback address, "127.0.0.1:0" (any free port) if empty.
	Listen string
	// SyncAlways syncs every message to disk before it is acknowledged. Without
	// it a crash of the machine (not of the process) loses the last two minutes.
	SyncAlways bool
}

// NATS is a running NATS server with JetStream.
type NATS struct {
	server *server.Server
}

// MaxPayload is the largest message the embedded server takes; a dead letter
// carries a whole webhook body.
const MaxPayload = 8 << 20

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
	// The server reports a port in use to its log only: it is asked for first.
	probe, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	probe.Close()
	if port == 0 {
		port = server.RANDOM_PORT
	}
	s, err := server.NewServer(&server.Options{
		ServerName: "ledgerfeed-dev",
		Host:       host,
		Port:       port,
		JetStream:  true,
		StoreDir:   o.Dir,
		SyncAlways: o.SyncAlways,
		MaxPayload: MaxPayload,
		NoSigs:     true,
		NoLog:      true,
	})
	if err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	n := &NATS{server: s}
	s.Start()
	if !s.ReadyForConnections(readyWithin) || !s.JetStreamEnabled() {
		n.Close()
		return nil, fmt.Errorf("start NATS: not ready on %s with the streams in %s", net.JoinHostPort(host, strconv.Itoa(port)), o.Dir)
	}
	return n, nil
}

// URL is where clients connect to.
func (n *NATS) URL() string { return n.server.ClientURL() }

// Close stops the server and returns when it has stopped. Closing twice is safe.
func (n *NATS) Close() {
	n.server.Shutdown()
	n.server.WaitForShutdown()
}

// loopback splits a listen address and refuses one that others could reach:
// these servers ask nobody for a password.
func loopback(listen string) (host string, port int, err error) {
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("listen address %q: want host:port", listen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", 0, fmt.Errorf("listen address %q: want a loopback address such as 127.0.0.1:%s", listen, text)
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("listen address %q: port %q is no number from 0 to 65535", listen, text)
	}
	return host, port, nil
}

func writable(dir string) error {
	if dir == "" {
		return errors.New("no directory given")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	probe, err := os.CreateTemp(dir, ".writable-*")
	if err != nil {
		return fmt.Errorf("directory %s cannot be written: %w", filepath.Clean(dir), err)
	}
	probe.Close()
	return os.Remove(probe.Name())
}
