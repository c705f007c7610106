package devtest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
)

// NATSProcesses is a NATSCluster whose servers are processes of their own, which can be
// killed. Each is the test binary, which needs [ServeNATS] in its TestMain.
type NATSProcesses struct {
	t       testing.TB
	servers [NATSServers]natsProcess
}

type natsProcess struct {
	dir  string
	port int
	p    *process // nil while stopped
}

// serveNATS is the argument that makes a test binary a server.
const serveNATS = "devtest-nats-server"

// ServeNATS makes this process one of the servers of [StartNATSProcesses], if it was
// started as one, and does not return then. Call it first in TestMain.
func ServeNATS() {
	if len(os.Args) != 3 || os.Args[1] != serveNATS {
		return
	}
	o, err := server.ProcessConfigFile(os.Args[2])
	if err == nil {
		// No file may set less than half a minute.
		o.LameDuckGracePeriod, o.LameDuckDuration = 200*time.Millisecond, time.Second
		var s *server.Server
		if s, err = server.NewServer(o); err == nil {
			s.ConfigureLogger()
			s.Start() // takes SIGTERM too
			s.WaitForShutdown()
			os.Exit(0)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// StartNATSProcesses starts a cluster that syncs every message before it acknowledges
// it, and returns when its servers take connections.
func StartNATSProcesses(t testing.TB) *NATSProcesses {
	t.Helper()
	c := &NATSProcesses{t: t}
	err := onFreePorts(2*NATSServers, func(ports []int) error {
		var routes []string
		for _, port := range ports[:NATSServers] {
			routes = append(routes, strconv.Quote("nats://"+local(port)))
		}
		for i := range c.servers {
			s := &c.servers[i]
			s.dir, s.port = t.TempDir(), ports[NATSServers+i]
			config := fmt.Sprintf("server_name: ledgerfeed-test-%d\nlisten: %q\njetstream {store_dir: %q, sync_interval: always, max_file_store: %d}\ncluster {name: ledgerfeed-test, listen: %q, no_advertise: true, routes: [%s]}\n",
				i+1, local(s.port), s.dir, devserver.MaxStore, local(ports[i]), strings.Join(routes, ", "))
			if err := os.WriteFile(s.config(), []byte(config), 0o600); err != nil {
				return err
			}
			if err := s.start(); err != nil {
				c.close()
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	t.Cleanup(c.close)
	t.Logf("devtest: NATS cluster of processes at %s", c.URL())
	return c
}

// URL is the addresses of all servers, as a client takes them.
func (c *NATSProcesses) URL() string {
	var urls []string
	for _, s := range c.servers {
		urls = append(urls, "nats://"+local(s.port))
	}
	return strings.Join(urls, ",")
}

// Kill ends one server, numbered from 0, with SIGKILL, and returns when it is gone.
func (c *NATSProcesses) Kill(i int) { c.servers[i].end(syscall.SIGKILL) }

// Stop ends one server with SIGTERM, which lets it write what it would lose otherwise.
func (c *NATSProcesses) Stop(i int) { c.servers[i].end(syscall.SIGTERM) }

// LameDuck has one server send its clients to the others and end, as an upgrade does, and
// returns when it is gone.
func (c *NATSProcesses) LameDuck(i int) { c.servers[i].end(syscall.SIGUSR2) }

// Start starts one server again with the streams it had, and returns when it takes
// connections; when it has caught up is another matter.
func (c *NATSProcesses) Start(i int) {
	c.t.Helper()
	if err := c.servers[i].start(); err != nil {
		c.t.Fatalf("devtest: %v", err)
	}
}

// Logs is what all servers have logged, those that were killed included.
func (c *NATSProcesses) Logs() string {
	c.t.Helper()
	var all strings.Builder
	for _, s := range c.servers {
		names, err := filepath.Glob(filepath.Join(s.dir, "log-*"))
		for _, name := range names {
			var text []byte
			if text, err = os.ReadFile(name); err != nil {
				break
			}
			all.Write(text)
		}
		if err != nil {
			c.t.Fatalf("devtest: %v", err)
		}
	}
	return all.String()
}

func (c *NATSProcesses) close() {
	for i := range c.servers {
		c.servers[i].end(syscall.SIGKILL)
	}
}

func (s *natsProcess) config() string { return filepath.Join(s.dir, "nats.conf") }

func (s *natsProcess) start() error {
	if s.p != nil {
		return nil
	}
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	if s.p, err = start(spec{binary: binary, args: []string{serveNATS, s.config()}, dir: s.dir, signal: syscall.SIGKILL}); err != nil {
		return err
	}
	err = s.p.until(func() error {
		conn, err := dial(local(s.port))
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		s.end(syscall.SIGKILL)
	}
	return err
}

func (s *natsProcess) end(signal syscall.Signal) {
	if s.p != nil {
		s.p.signal = signal
		s.p.stop()
		s.p = nil
	}
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
