package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// figures are what the run measured.
type figures struct {
	Changes  int64   `json:"changes"`
	Records  int     `json:"records"`
	Webhooks int     `json:"webhooks_acknowledged"`
	Lost     int     `json:"lost"`
	Stale    int     `json:"stale"`
	Extra    int     `json:"extra"`
	FirstRow float64 `json:"first_row_seconds"` // from docker compose up
	Healthy  float64 `json:"healthy_seconds"`
	Settled  float64 `json:"settled_seconds"` // from the last change
	Seconds  float64 `json:"seconds"`
	Peak     int     `json:"processors"`
}

// The stack as a user starts it, under load through the published port: processors
// come and go, every container is restarted, one loses its network. At rest the
// database is equal to QuickBooks.
func TestCompose(t *testing.T) {
	e := findEngine(t)
	t.Log(e.must(t, filepath.Join(e.root, "deploy", "docker", "standins"), e.docker))
	version := os.Getenv("LEDGERFEED_VERSION")
	if version == "" {
		version = "dev"
	}
	port, consolePort := freePort(t), freePort(t)
	e.env = append(e.env,
		"COMPOSE_PROJECT_NAME="+project, "LEDGERFEED_VERSION="+version, "INGRESS_PORT="+strconv.Itoa(port), "CONSOLE_PORT="+strconv.Itoa(consolePort),
		"SIM_RATE=0", "LEDGERFEED_RECONCILER_INTERVAL=20s", "LEDGERFEED_RECONCILER_QUERY_INTERVAL=20s", "LEDGERFEED_RECONCILER_GRACE=2s",
	)
	e.down(true)
	t.Cleanup(func() {
		if t.Failed() {
			e.logs(t)
		}
		e.down(true)
	})
	var f figures
	began := time.Now()
	e.up(t, 1)
	q := &quickbooks{e: e}
	f.FirstRow = q.firstRow(t, began).Seconds()
	require.Less(t, f.FirstRow, 60.0, "changes flow within a minute")
	e.healthy(t)
	f.Healthy = time.Since(began).Seconds()
	closed(t, e)
	apart(t, e)
	permitted(t, e)
	strangers(t, e)
	q.relay = startRelay(t, e.one(t, "quickbooks").gateway(), port)
	q.viaPort(t)

	var realms []string
	require.NoError(t, q.ask(t.Context(), e.one(t, "quickbooks").address(), http.MethodGet, "/sim/realms", nil, &realms))
	stopLoad := q.begin(t, realms)
	f.Peak = q.disturb(t)
	consoleShows(t, consolePort, realms)
	f.Changes = stopLoad()
	permitted(t, e)

	last := time.Now()
	d, truth := q.settle(t, realms)
	f.Settled, f.Seconds = time.Since(last).Seconds(), time.Since(began).Seconds()
	f.Records, f.Lost, f.Stale, f.Extra = len(truth), d.Lost, d.Stale, d.Extra
	var stats struct {
		Webhooks int `json:"webhooks"`
	}
	require.NoError(t, q.ask(t.Context(), e.one(t, "quickbooks").address(), http.MethodGet, "/sim/stats", nil, &stats))
	f.Webhooks = stats.Webhooks
	f.report(t, e.root)
	require.Positive(t, f.Changes)
	require.Zero(t, d.Lost+d.Stale+d.Extra, "%v", d.examples)
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// firstRow waits for the first row of the initial load.
func (q *quickbooks) firstRow(t *testing.T, began time.Time) time.Duration {
	t.Helper()
	for time.Since(began) < 3*time.Minute {
		if c := q.e.one(t, "processor"); c.healthy() && len(held(t, q.e)) > 0 {
			return time.Since(began)
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Fatal("no row in the database after 3 minutes")
	return 0
}

// closed checks what the engine made of the compose file: who is published, and
// what our containers may do.
func closed(t *testing.T, e *engine) {
	t.Helper()
	published := map[string]bool{"ingress": true, "console": true}
	for _, c := range e.containers(t) {
		for _, bindings := range c.NetworkSettings.Ports {
			for _, b := range bindings {
				require.True(t, published[c.service()], "%s is published", c.Name)
				require.Equal(t, "127.0.0.1", b.HostIp, c.Name)
			}
		}
		require.Positive(t, c.HostConfig.Memory, "%s has no memory limit", c.Name)
		if c.service() != "nats-volume" {
			require.NotContains(t, []string{"", "0", "0:0", "root"}, c.Config.User, "%s runs as root", c.Name)
			require.Equal(t, []string{"ALL"}, c.HostConfig.CapDrop, c.Name)
			require.True(t, c.HostConfig.ReadonlyRootfs, c.Name)
		}
		switch c.service() {
		case "ingress", "processor", "reconciler", "console", "quickbooks":
			require.Equal(t, "65532:65532", c.Config.User, c.Name)
			require.True(t, c.HostConfig.ReadonlyRootfs, c.Name)
			require.Equal(t, []string{"ALL"}, c.HostConfig.CapDrop, c.Name)
		}
	}
}

// consoleShows reads the console through its published port, and has it send a
// webhook to the ingress.
func consoleShows(t *testing.T, port int, realms []string) {
	t.Helper()
	ask := func(method, path, form string, out any) error {
		req, err := http.NewRequestWithContext(t.Context(), method, fmt.Sprintf("http://127.0.0.1:%d/api/v1%s", port, path), strings.NewReader(form))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer ledgerfeed-demo-console")
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			body, _ := io.ReadAll(resp.Body)
			return fmt.Errorf("%s: %s", resp.Status, body)
		}
		return json.NewDecoder(resp.Body).Decode(out)
	}
	var seen struct {
		Realms int      `json:"realms_total"`
		Ack    *float64 `json:"ack_p99_seconds"`
		Sink   *float64 `json:"change_to_sink_p95_seconds"`
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		var answer struct {
			Message string `json:"message"`
		}
		require.NoError(c, ask(http.MethodPost, "/test", "realm="+realms[0]+"&entity=Invoice&id=1&operation=update", &answer))
		require.NoError(c, ask(http.MethodGet, "/overview", "", &seen))
		require.Equal(c, len(realms), seen.Realms)
		require.NotNil(c, seen.Ack, "nothing of the ingress")
		require.NotNil(c, seen.Sink, "nothing of the processor")
	}, time.Minute, time.Second)
	t.Logf("console: %d realms, ack p99 %.3f s, change to sink p95 %.3f s", seen.Realms, *seen.Ack, *seen.Sink)
}

// begin makes changes in the background; the function it returns ends that and
// tells how many there were.
func (q *quickbooks) begin(t *testing.T, realms []string) (stop func() int64) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		q.load(ctx, realms, 20*time.Millisecond)
	}()
	t.Cleanup(cancel)
	return func() int64 {
		cancel()
		<-ended
		return q.made.Load()
	}
}

const (
	phase = 15 * time.Second
	cut   = 20 * time.Second
)

// disturb scales, restarts and cuts, and returns the most processors there were.
func (q *quickbooks) disturb(t *testing.T) (peak int) {
	t.Helper()
	pause(t, phase)
	q.e.up(t, 3)
	t.Logf("three processors, healthy after %s", q.e.healthy(t).Round(time.Second))
	for _, c := range q.e.containers(t) {
		if c.service() == "processor" {
			peak++
		}
	}
	pause(t, phase)
	q.cutOff(t)
	q.e.up(t, 1)
	t.Logf("one processor, healthy after %s", q.e.healthy(t).Round(time.Second))
	pause(t, phase)
	for _, c := range q.e.containers(t) {
		if c.ends() {
			continue
		}
		began := time.Now()
		q.e.must(t, q.e.docker, "restart", "--time", "60", c.ID)
		q.e.healthy(t)
		t.Logf("%s restarted and healthy after %s", c.service(), time.Since(began).Round(time.Second))
		if c.service() == "quickbooks" {
			q.viaPort(t)
		}
	}
	pause(t, phase)
	return peak
}

// cutOff takes the network from one of the processors while it works.
func (q *quickbooks) cutOff(t *testing.T) {
	t.Helper()
	for _, c := range q.e.containers(t) {
		if c.service() != "processor" {
			continue
		}
		for network := range c.NetworkSettings.Networks {
			q.e.must(t, q.e.docker, "network", "disconnect", network, c.ID)
			t.Logf("%s has no network for %s", c.Name, cut)
			pause(t, cut)
			q.e.must(t, q.e.docker, "network", "connect", "--alias", "processor", network, c.ID)
			t.Logf("and is healthy again after %s", q.e.healthy(t).Round(time.Second))
		}
		return
	}
}

// pause lets the load go on.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	case <-time.After(d):
	}
}

// settle waits until the database is equal to QuickBooks, five minutes at most,
// and returns what is left.
func (q *quickbooks) settle(t *testing.T, realms []string) (d difference, truth map[key]state) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); ; pause(t, time.Second) {
		_ = q.ask(t.Context(), q.e.one(t, "quickbooks").address(), http.MethodPost, "/sim/flush", nil, nil)
		truth = q.truth(t, realms)
		d = compare(truth, held(t, q.e))
		if d.Lost+d.Stale+d.Extra == 0 || time.Now().After(deadline) {
			return d, truth
		}
	}
}

func (f figures) report(t *testing.T, root string) {
	t.Helper()
	text, err := json.Marshal(f)
	require.NoError(t, err)
	t.Logf("%s", text)
	dir := filepath.Join(root, "build")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "e2e-compose.json"), append(text, '\n'), 0o644))
}
