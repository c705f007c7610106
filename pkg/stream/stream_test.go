package stream_test

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

func TestMain(m *testing.M) {
	devtest.ServeNATS()
	goleak.VerifyTestMain(m)
}

// bundle is a broker of its own, a connection of ours with the topology in
// place, and one of the test's to look behind it.
type bundle struct {
	url  string
	conn *stream.Conn
	js   jetstream.JetStream
}

func setup(t *testing.T, change ...func(*stream.Config)) *bundle {
	t.Helper()
	b := &bundle{url: devtest.NATS(t)}
	b.conn = connect(t, b.url, change...)
	require.NoError(t, b.conn.EnsureTopology(t.Context()))
	b.js = raw(t, b.url)
	return b
}

func config(url string, change ...func(*stream.Config)) stream.Config {
	c := stream.DefaultConfig()
	c.URL = url
	c.EventsMaxBytes, c.RetryMaxBytes, c.DeadMaxBytes, c.ChangesMaxBytes = 64<<20, 64<<20, 64<<20, 64<<20
	for _, f := range change {
		f(&c)
	}
	return c
}

func connect(t *testing.T, url string, change ...func(*stream.Config)) *stream.Conn {
	t.Helper()
	c, err := stream.Connect(t.Context(), stream.Options{Config: config(url, change...), Name: t.Name(), Logger: zaptest.NewLogger(t)})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func raw(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return js
}

func (b *bundle) stored(t *testing.T, name string) uint64 {
	t.Helper()
	s, err := b.js.Stream(t.Context(), name)
	require.NoError(t, err)
	return s.CachedInfo().State.Msgs
}

func (b *bundle) config(t *testing.T, name string) jetstream.StreamConfig {
	t.Helper()
	s, err := b.js.Stream(t.Context(), name)
	require.NoError(t, err)
	return s.CachedInfo().Config
}

func host(t *testing.T, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	require.NoError(t, err)
	return u.Host
}

func env(realm string, n int) *ledgerfeedv1.Envelope {
	events := []*ledgerfeedv1.Event{{Entity: "Invoice", EntityId: fmt.Sprint(n)}}
	return envelope.New(ledgerfeedv1.Source_SOURCE_CDC, realm, "seed", events, envelope.Meta{})[0]
}

// within is a context for what must be over long before.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
