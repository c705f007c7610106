package processor_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// limitedNATS has the bundle use a broker with accounts, and returns the connection of a
// user who may do what the service needs and no more, and what it logs.
func (b *bundle) limitedNATS(service string) (*stream.Conn, *observer.ObservedLogs) {
	b.t.Helper()
	n := devtest.StartNATSAccount(b.t, devtest.NATSLimits{})
	b.natsURL = n.URL()
	b.conn = b.dial(b.natsURL, func(c *stream.Config) { c.CredentialsFile = n.Credentials("admin", nil, nil) })
	require.NoError(b.t, b.conn.EnsureTopology(b.t.Context()))
	a, known := stream.AccessOf(service)
	require.True(b.t, known)
	core, logged := observer.New(zap.WarnLevel)
	cfg := stream.DefaultConfig()
	cfg.URL, cfg.Profile, cfg.CredentialsFile = n.URL(), "dev", n.Credentials(service, a.Publish, a.Subscribe)
	conn, err := stream.Connect(b.t.Context(), stream.Options{Config: cfg, Name: service, Logger: zap.New(core)})
	require.NoError(b.t, err)
	b.t.Cleanup(conn.Close)
	return conn, logged
}

// The permissions that are documented are enough for changes, retries, dead letters and
// what waits.
func TestAccess_AProcessorNeedsNoMoreOfNATS(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn, logged := b.limitedNATS("processor")
	require.NoError(t, conn.EnsureTopology(t.Context()))
	require.NoError(t, conn.RequireAccess(t.Context()))
	b.waitAfter = 2
	o := b.options()
	o.Stream = conn
	p := b.run(o)
	b.b.misbehave(func(context.Context, []*ledgerfeedv1.Change) error { return errors.New("down") })
	bill := b.create("Bill", nil)
	b.publish(b.webhooks()...)
	b.publish(many("4711", "stranger", 1)...)
	b.delivered(b.a, bill)
	b.b.misbehave(nil)
	b.delivered(b.b, bill)
	b.settle(p)
	require.Len(t, b.dead(), 1)
	require.NoError(t, conn.Ready(t.Context()))
	require.Zero(t, logged.FilterMessage("broker denies a subject").Len(), "%v", logged.All())
	require.Eventually(t, func() bool { return conn.Ready(t.Context()) == nil }, patient, 10*time.Millisecond)
}
