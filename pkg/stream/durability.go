package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/mod/semver"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// MismatchError says that the broker keeps less than the profile promises, or
// does not say what it keeps. Each problem is a line with what to do.
type MismatchError struct {
	Profile  Profile
	Problems []string
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("the broker does not keep what the profile %s promises: %s", e.Profile, strings.Join(e.Problems, "; "))
}

// Durability is what a PubAck of the event stream means, as the broker itself
// says. The zero value is: not asked.
type Durability struct {
	Profile  Profile
	Replicas int
	Servers  []Server // those that hold the stream
	Problems []string

	silent int // servers that did not say, each a problem
	// starting says that nothing is wrong but that one server's endpoint does not
	// answer and another's does.
	starting bool
}

// Server is one nats-server that holds the event stream.
type Server struct {
	Name, Version string
	// Sync is "always", an interval, or empty if the server could not be asked.
	Sync string
	// Offline is a server of a cluster that is down, as the others say, or that
	// their leader has not heard of for some seconds.
	Offline bool
	// Stored is what JetStream keeps on the server's disk, StoreLimit what it may, in
	// bytes; 0 if the server could not be asked.
	Stored, StoreLimit int64
}

// Err is a *MismatchError, or nil where the broker keeps what the profile promises.
func (d Durability) Err() error {
	if len(d.Problems) == 0 {
		return nil
	}
	return &MismatchError{Profile: d.Profile, Problems: d.Problems}
}

// Describe returns what /readyz shows of it.
func (d Durability) Describe() map[string]string {
	var servers []string
	for _, s := range d.Servers {
		sync := s.Sync
		switch {
		case sync == "" && s.Offline:
			sync = "unknown, it is offline"
		case sync == "":
			sync = "unknown"
		}
		servers = append(servers, fmt.Sprintf("%s %s sync %s", s.Name, s.Version, sync))
	}
	kept := "as the profile promises"
	if len(d.Problems) > 0 {
		kept = "allowed: " + strings.Join(d.Problems, "; ")
	}
	return map[string]string{
		"profile": string(d.Profile), "replicas": fmt.Sprint(d.Replicas), "servers": strings.Join(servers, ", "), "durability": kept,
	}
}

// leastVersion is what the profile needs of a server. Before 2.12 there are no
// atomic batches, before 2.15 a cluster syncs every message by itself.
func (p Profile) leastVersion() string {
	if p == Cluster {
		return "v2.15.0"
	}
	return leastServer
}

// Durability asks the broker how it keeps the event stream: the stream for its
// replicas, each server that holds one for its version and sync_interval. The
// latter a client cannot see; the server's monitoring endpoint tells (see
// Config.MonitorURL). The profile dev is the embedded server, which nobody has
// to ask. An error means that the stream could not be looked up.
func (c *Conn) Durability(ctx context.Context) (Durability, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := c.js.Stream(ctx, EventStream)
	if err != nil {
		return Durability{}, fmt.Errorf("look up stream %s: %w", EventStream, err)
	}
	info := s.CachedInfo()
	d := Durability{Profile: c.cfg.Profile, Replicas: info.Config.Replicas}
	if want := d.Profile.Replicas(); d.Replicas < want {
		d.problem("stream %s has %d replicas instead of %d", EventStream, d.Replicas, want)
	}
	if info.Config.Storage != jetstream.FileStorage || info.Config.PersistMode == jetstream.AsyncPersistMode {
		d.problem("stream %s is not written to disk before it is acknowledged", EventStream)
	}
	told, notTold := c.askServers(ctx)
	for name, offline := range c.holders(info) {
		server, ok := told[name]
		if !ok {
			server = Server{Name: name, Offline: offline}
		}
		if name == c.nc.ConnectedServerName() {
			server.Version = c.nc.ConnectedServerVersion()
		}
		d.Servers = append(d.Servers, server)
		d.check(server)
	}
	d.starting = d.silent > 0 && d.silent == len(d.Problems) && len(told) > 0 && len(notTold) > 0
	if len(d.Problems) > 0 && len(notTold) > 0 && d.Profile != Dev {
		d.Problems = append(d.Problems, notTold...)
	}
	c.metrics.durable(d)
	return d, nil
}

const (
	// unheard is how long a server of a cluster may be silent until it counts as
	// down. One that was killed the others call offline only minutes later.
	unheard = 4 * time.Second
	// patience is how long a server that was stopped or started just now is given
	// until it answers, or until the others miss it.
	patience = 15 * time.Second
)

// RequireDurability is Durability, with an error where the broker keeps less
// than the profile promises or does not say; with Config.AllowMismatch that is a
// warning instead. Where one server of a cluster does not answer it asks again,
// for 15 s.
func (c *Conn) RequireDurability(ctx context.Context) (Durability, error) {
	d, err := backoff.Retry(ctx, func() (Durability, error) {
		d, err := c.Durability(ctx)
		if err == nil {
			err = d.Err()
		}
		if err != nil && (c.cfg.AllowMismatch || !d.starting) {
			err = backoff.Permanent(err)
		}
		return d, err
	}, backoff.WithBackOff(backoff.NewConstantBackOff(time.Second)), backoff.WithMaxElapsedTime(patience), backoff.WithNotify(func(err error, _ time.Duration) {
		c.log.Info("waiting for a server of the cluster", telemetry.Error(err))
	}))
	var mismatch *MismatchError
	switch {
	case !errors.As(err, &mismatch):
		return d, err
	case c.cfg.AllowMismatch:
		c.log.Warn("broker less durable than the profile; allowed by nats.allow_mismatch", telemetry.Error(err))
		return d, nil
	default:
		return d, fmt.Errorf("%w (set nats.allow_mismatch to start anyway)", err)
	}
}

// holders are the names of the servers that keep the stream, sorted, and whether
// each is offline.
func (c *Conn) holders(info *jetstream.StreamInfo) iter.Seq2[string, bool] {
	offline := map[string]bool{}
	if info.Cluster != nil {
		for _, r := range info.Cluster.Replicas {
			offline[r.Name] = r.Offline || r.Active > unheard
		}
		if info.Cluster.Leader != "" {
			offline[info.Cluster.Leader] = false
		}
	}
	if len(offline) == 0 {
		offline[c.nc.ConnectedServerName()] = false
	}
	return func(yield func(string, bool) bool) {
		for _, name := range slices.Sorted(maps.Keys(offline)) {
			if !yield(name, offline[name]) {
				return
			}
		}
	}
}

func (d *Durability) problem(format string, args ...any) {
	d.Problems = append(d.Problems, fmt.Sprintf(format, args...))
}

// check compares one server with what the profile promises.
func (d *Durability) check(s Server) {
	if least := d.Profile.leastVersion(); s.Version != "" && semver.Compare("v"+s.Version, least) < 0 {
		d.problem("server %s is nats-server %s, and the profile needs %s", s.Name, s.Version, strings.TrimPrefix(least, "v"))
	}
	switch {
	case d.Profile == Dev || d.Profile == SingleRelaxed || s.Sync == syncAlways:
	case s.Sync == "" && s.Offline:
		// It keeps nothing now, so no acknowledgement is its. Who starts while one of
		// three is down must not be turned away (I11).
	case s.Sync == "":
		d.silent++
		d.problem("server %s did not say its sync_interval: set nats.monitor_url to the monitoring endpoint (http://HOST:8222) of each server", s.Name)
	default:
		d.problem("server %s has sync_interval %s instead of always: a power cut loses what it acknowledged since", s.Name, s.Sync)
	}
}

const syncAlways = "always"

// askServers asks every monitoring endpoint, and returns the servers by name and
// which endpoints did not answer.
func (c *Conn) askServers(ctx context.Context) (map[string]Server, []string) {
	servers := map[string]Server{}
	var failed []string
	if c.cfg.Profile == Dev {
		return servers, nil
	}
	client := &http.Client{Timeout: readyTimeout}
	defer client.CloseIdleConnections()
	for _, endpoint := range c.cfg.monitors() {
		s, err := askServer(ctx, client, endpoint)
		if err != nil {
			failed = append(failed, err.Error())
			continue
		}
		servers[s.Name] = s
	}
	return servers, failed
}

// maxVarz bounds the answer of a monitoring endpoint; it has some 10 KB.
const maxVarz = 1 << 20

func askServer(ctx context.Context, client *http.Client, endpoint string) (Server, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(endpoint, "/")+"/varz", nil)
	if err != nil {
		return Server{}, fmt.Errorf("monitoring endpoint %s: %w", endpoint, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the address, which stands before it already
		}
		return Server{}, fmt.Errorf("monitoring endpoint %s: %w", endpoint, err)
	}
	defer resp.Body.Close()
	var varz struct {
		Name      string `json:"server_name"`
		Version   string `json:"version"`
		JetStream struct {
			Config *struct {
				SyncAlways   bool          `json:"sync_always"`
				SyncInterval time.Duration `json:"sync_interval"`
				MaxStore     int64         `json:"max_storage"`
			} `json:"config"`
			Stats struct {
				Store int64 `json:"storage"`
			} `json:"stats"`
		} `json:"jetstream"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, maxVarz)).Decode(&varz)
	if resp.StatusCode != http.StatusOK || err != nil || varz.Name == "" || varz.JetStream.Config == nil {
		return Server{}, fmt.Errorf("monitoring endpoint %s: %s is not the answer of a nats-server with JetStream", endpoint, resp.Status)
	}
	s := Server{
		Name: varz.Name, Version: varz.Version, Sync: varz.JetStream.Config.SyncInterval.String(),
		Stored: varz.JetStream.Stats.Store, StoreLimit: varz.JetStream.Config.MaxStore,
	}
	if varz.JetStream.Config.SyncAlways {
		s.Sync = syncAlways
	}
	return s, nil
}

// monitors are the monitoring endpoints; by default the usual port of the
// servers themselves.
func (c Config) monitors() (endpoints []string) {
	if c.MonitorURL != "" {
		for _, e := range strings.Split(c.MonitorURL, ",") {
			endpoints = append(endpoints, strings.TrimSpace(e))
		}
		return endpoints
	}
	for _, s := range strings.Split(c.URL, ",") {
		if u, err := url.Parse(strings.TrimSpace(s)); err == nil && u.Hostname() != "" {
			endpoints = append(endpoints, (&url.URL{Scheme: "http", Host: net.JoinHostPort(u.Hostname(), "8222")}).String())
		}
	}
	return endpoints
}
