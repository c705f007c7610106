package bench_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/load"
)

// The load: 10 events of 2 realms a request, which are 2 messages.
const events, realms = 10, 2

// profile is one setting of the broker and its contenders.
type profile struct {
	*bench
	name       string
	broker     *broker
	contenders []*contender
}

// contender is one server on the broker of its profile.
type contender struct {
	*child
	name string
	// take returns how many messages (rows) it has stored since the last call,
	// and removes them: nobody pays for what was stored before.
	take func() int64
	each int64 // messages (rows) of a request

	open, closed, same, idle       []load.Report
	capacity                       []float64 // what a closed loop was answered, before the search
	late                           int64     // requests that the generator sent late
	answered, failed, stored, lost int64
	cpu                            time.Duration // in the windows that compare
	cpuFor                         int64         // answers it was spent for
}

// start starts the broker of a profile and the contenders on it.
func (b *bench) start(name string) *profile {
	b.t.Helper()
	p := &profile{bench: b, name: name, broker: startBroker(b.t, name)}
	p.add("ledgerfeed", realms, p.broker.messages(eventStream), func() *child { return p.broker.ingress(b.binary, p.broker.url, 4096) })
	p.add("bare", realms, p.broker.messages(eventStream), func() *child {
		return startChild(b.t, "bare", "BENCH_NATS="+p.broker.url, "BENCH_SAMPLE="+sample(b.t))
	})
	p.add("watermill", 1, p.broker.messages(peerStream), func() *child { return startChild(b.t, "watermill", "BENCH_NATS="+p.broker.url) })
	p.add("watermill-split", realms, p.broker.messages(peerStream), func() *child {
		return startChild(b.t, "watermill-split", "BENCH_NATS="+p.broker.url)
	})
	if wanted("river") {
		database := devtest.Postgres(b.t)
		if name == synced {
			database = devtest.DurablePostgres(b.t)
		}
		p.add("river", 1, p.jobs(database), func() *child { return startChild(b.t, "river", "BENCH_POSTGRES="+database) })
	}
	return p
}

func (p *profile) add(name string, each int64, take func() int64, start func() *child) {
	if wanted(name) {
		p.contenders = append(p.contenders, &contender{child: start(), name: name, each: each, take: take})
	}
}

func (p *profile) stop() {
	for _, c := range p.contenders {
		c.stop()
	}
	p.broker.stop()
}

// broker is a nats-server of its own process, with the streams of the profile.
type broker struct {
	*child
	t            *testing.T
	profile      stream.Profile
	url, monitor string
	js           jetstream.JetStream
	taken        map[string]int64 // by stream: the number of the last message that was counted
}

func startBroker(t *testing.T, name string) *broker {
	t.Helper()
	b := &broker{t: t, profile: stream.SingleRelaxed, taken: map[string]int64{}}
	sync := ""
	if name == synced {
		b.profile, sync = stream.Single, "always"
	}
	b.child = startChild(t, "broker", "BENCH_SYNC="+sync, "BENCH_DIR="+diskDir(t))
	b.url, b.monitor = b.says[0], b.says[1]

	// The streams as the ingress makes them, for those who measure without it.
	cfg := stream.DefaultConfig()
	cfg.URL, cfg.MonitorURL, cfg.Profile = b.url, b.monitor, b.profile
	conn, err := stream.Connect(t.Context(), stream.Options{Config: cfg, Name: "bench"})
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.EnsureTopology(t.Context()))

	nc, err := nats.Connect(b.url)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	b.js, err = jetstream.New(nc)
	require.NoError(t, err)
	s, err := b.js.Stream(t.Context(), eventStream)
	require.NoError(t, err)
	peer := s.CachedInfo().Config
	peer.Name, peer.Subjects = peerStream, []string{peerTopic}
	_, err = b.js.CreateStream(t.Context(), peer)
	require.NoError(t, err)
	return b
}

// ingress starts the real service, as an operator would.
func (b *broker) ingress(binary, url string, inFlight int) *child {
	b.t.Helper()
	return startChild(b.t, "ledgerfeed", "BENCH_BINARY="+binary,
		"LEDGERFEED_NATS_URL="+url, "LEDGERFEED_NATS_MONITOR_URL="+b.monitor, "LEDGERFEED_NATS_PROFILE="+string(b.profile),
		"LEDGERFEED_ADMIN_LISTEN="+freeAddress(b.t),
		"LEDGERFEED_INGRESS_LISTEN="+freeAddress(b.t), "LEDGERFEED_INGRESS_APPS="+app+"="+verifierToken,
		"LEDGERFEED_INGRESS_BUDGET=2.9s", fmt.Sprintf("LEDGERFEED_INGRESS_MAX_IN_FLIGHT=%d", inFlight),
	)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// last is the number of the last message that a stream took.
func (b *broker) last(name string) int64 {
	b.t.Helper()
	s, err := b.js.Stream(b.t.Context(), name)
	require.NoError(b.t, err)
	return int64(s.CachedInfo().State.LastSeq)
}

// take returns how many messages a stream took since the last call, whoever
// sent them, and removes them. It counts by the numbers the stream gave, so that
// nothing is missed that came between two calls.
func (b *broker) take(name string) int64 {
	b.t.Helper()
	last := b.last(name)
	n := last - b.taken[name]
	b.taken[name] = last
	s, err := b.js.Stream(b.t.Context(), name)
	require.NoError(b.t, err)
	require.NoError(b.t, s.Purge(b.t.Context()))
	return n
}

func (b *broker) messages(name string) func() int64 { return func() int64 { return b.take(name) } }

// jobs counts the rows themselves: a number that a transaction took and rolled
// back is not used again.
func (p *profile) jobs(url string) func() int64 {
	conn, err := pgx.Connect(p.t.Context(), url)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return func() (n int64) {
		p.t.Helper()
		err := pgx.BeginFunc(p.t.Context(), conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(p.t.Context(), "LOCK TABLE river_job"); err != nil {
				return err
			}
			if err := tx.QueryRow(p.t.Context(), "SELECT count(*) FROM river_job").Scan(&n); err != nil {
				return err
			}
			_, err := tx.Exec(p.t.Context(), "TRUNCATE river_job")
			return err
		})
		require.NoError(p.t, err)
		return n
	}
}

// options are the load on a server.
func options(addr string) load.Options {
	o := load.DefaultOptions()
	o.URL, o.Token = "http://"+addr+path, secret.String(verifierToken)
	o.Events, o.Realms = events, realms
	return o
}

// sample is a body of the load.
func sample(t *testing.T) string {
	t.Helper()
	body := make(chan string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if text, err := io.ReadAll(r.Body); err == nil {
			select {
			case body <- string(text):
			default:
			}
		}
	}))
	defer s.Close()
	o := options(s.Listener.Addr().String())
	o.Rate, o.Connections, o.Duration = 10, 1, 50*time.Millisecond
	_, err := load.Run(t.Context(), o)
	require.NoError(t, err)
	return <-body
}
