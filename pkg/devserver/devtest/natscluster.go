package devtest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
)

// NATSServers is how many servers a cluster has: the least that outlives one.
const NATSServers = 3

// NATSCluster is three NATS servers in this process that keep streams of three
// replicas and sync every message, as the profile cluster promises.
type NATSCluster struct {
	t       testing.TB
	options [NATSServers]server.Options
	servers [NATSServers]*server.Server // nil while stopped
	urls    [NATSServers]string
}

// StartNATSCluster starts a cluster and returns when it has a leader. It pays no
// heed to NATS_URL.
func StartNATSCluster(t testing.TB) *NATSCluster {
	t.Helper()
	c := &NATSCluster{t: t}
	err := onFreePorts(2*NATSServers, func(ports []int) error {
		var routes []*url.URL
		for _, port := range ports[:NATSServers] {
			routes = append(routes, &url.URL{Scheme: "nats", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))})
		}
		for i := range NATSServers {
			c.options[i] = server.Options{
				ServerName: fmt.Sprintf("ledgerfeed-test-%d", i+1),
				Host:       "127.0.0.1",
				Port:       ports[NATSServers+i],
				HTTPHost:   "127.0.0.1",
				HTTPPort:   server.RANDOM_PORT,
				Cluster:    server.ClusterOpts{Name: "ledgerfeed-test", Host: "127.0.0.1", Port: ports[i], NoAdvertise: true},
				Routes:     routes,
				JetStream:  true,
				StoreDir:   t.TempDir(),
				SyncAlways: true,
				NoSigs:     true,
				NoLog:      true,

				JetStreamMaxStore: devserver.MaxStore,
			}
			c.urls[i] = "nats://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[NATSServers+i]))
		}
		for i := range NATSServers {
			if err := c.start(i); err != nil {
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
	c.WaitForPeers()
	t.Logf("devtest: NATS cluster in process at %s", c.URL())
	return c
}

// URL is the addresses of all servers, as a client takes them.
func (c *NATSCluster) URL() string { return strings.Join(c.urls[:], ",") }

// MonitorURL is the monitoring endpoints of those that run.
func (c *NATSCluster) MonitorURL() string {
	var urls []string
	for _, s := range c.servers {
		if s != nil {
			urls = append(urls, "http://"+s.MonitorAddr().String())
		}
	}
	return strings.Join(urls, ",")
}

// Stop ends one server, numbered from 0; its streams stay. Stopping a stopped
// one is safe.
func (c *NATSCluster) Stop(i int) {
	if s := c.servers[i]; s != nil {
		// One that is still making its part of a stream leaves goroutines behind.
		c.settle(i)
		s.Shutdown()
		s.WaitForShutdown()
		c.servers[i] = nil
	}
}

// Start starts one server again on its ports with the streams it had, and
// returns when it takes connections; whether the cluster has a leader by then is
// another matter.
func (c *NATSCluster) Start(i int) {
	c.t.Helper()
	if c.servers[i] != nil {
		return
	}
	if err := c.start(i); err != nil {
		c.t.Fatalf("devtest: %v", err)
	}
}

func (c *NATSCluster) start(i int) error {
	s, err := startNATS(c.options[i])
	if err == nil {
		c.servers[i] = s
	}
	return err
}

// startNATS starts a server in this process.
func startNATS(o server.Options) (*server.Server, error) { // the server fills in its copy
	s, err := server.NewServer(&o)
	if err != nil {
		return nil, err
	}
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, errPortTaken
	}
	return s, nil
}

func (c *NATSCluster) close() {
	for i := range c.servers {
		c.settle(i)
	}
	for i := range c.servers {
		c.Stop(i)
	}
}

// settle waits until a server has all it should have, if it can get it: without
// a quorum it cannot.
func (c *NATSCluster) settle(i int) {
	running := 0
	for _, s := range c.servers {
		if s != nil {
			running++
		}
	}
	if c.servers[i] == nil || running <= NATSServers/2 {
		return
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(clusterPatience); !c.healthy(i) && time.Now().Before(end); <-tick.C {
	}
}

func (c *NATSCluster) healthy(i int) bool {
	return c.servers[i].Healthz(&server.HealthzOptions{}).Status == "ok"
}

// WaitForPeers waits until every server runs and the cluster can create streams
// of three replicas.
func (c *NATSCluster) WaitForPeers() {
	c.t.Helper()
	c.until("the cluster has no leader that sees all servers", func() bool {
		for _, s := range c.servers {
			if s != nil && s.JetStreamIsLeader() {
				return len(s.JetStreamClusterPeers()) == NATSServers
			}
		}
		return false
	})
}

// Leader returns the number of the server that leads a stream, once there is one.
func (c *NATSCluster) Leader(stream string) (leader int) {
	c.t.Helper()
	c.until("stream "+stream+" has no leader", func() bool {
		for i, s := range c.servers {
			if s != nil && s.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream) {
				leader = i
				return true
			}
		}
		return false
	})
	return leader
}

// StepDown makes the leader of a stream give up its office, and returns when
// another one has it.
func (c *NATSCluster) StepDown(stream string) {
	c.t.Helper()
	before := c.Leader(stream)
	nc, err := nats.Connect(c.URL())
	if err != nil {
		c.t.Fatalf("devtest: %v", err)
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), clusterPatience)
	defer cancel()
	msg, err := nc.RequestWithContext(ctx, fmt.Sprintf(server.JSApiStreamLeaderStepDownT, stream), nil)
	if err != nil {
		c.t.Fatalf("devtest: step down of stream %s: %v", stream, err)
	}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil || answer.Error != nil {
		c.t.Fatalf("devtest: step down of stream %s: %s", stream, msg.Data)
	}
	c.until("stream "+stream+" keeps its leader", func() bool { return c.Leader(stream) != before })
}

// clusterPatience is ample for an election on a busy machine.
const clusterPatience = time.Minute

func (c *NATSCluster) until(complaint string, done func() bool) {
	c.t.Helper()
	deadline := time.Now().Add(clusterPatience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ; !done(); <-tick.C {
		if time.Now().After(deadline) {
			c.t.Fatalf("devtest: %s after %s", complaint, clusterPatience)
		}
	}
}
