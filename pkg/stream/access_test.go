package stream_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// user is the connection of a service whose user may do what it needs, but for the
// subjects that are left out.
func user(t *testing.T, n *devtest.NATSAccount, service string, log *zap.Logger, without ...string) *stream.Conn {
	t.Helper()
	file := allow(n, service, without...)
	c, err := stream.Connect(t.Context(), stream.Options{
		Config: config(n.URL(), func(c *stream.Config) { c.CredentialsFile = file }), Name: service, Logger: log,
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func allow(n *devtest.NATSAccount, service string, without ...string) (file string) {
	left := func(all []string) []string {
		return slices.DeleteFunc(all, func(s string) bool { return slices.Contains(without, s) })
	}
	a, _ := stream.AccessOf(service)
	return n.Credentials(service, left(a.Publish), left(a.Subscribe))
}

// admin is a connection of a user who may do everything.
func admin(t *testing.T, n *devtest.NATSAccount) *stream.Conn {
	t.Helper()
	return connect(t, n.URL(), func(c *stream.Config) { c.CredentialsFile = n.Credentials("admin", nil, nil) })
}

// With what AccessOf lists a service works, and the check stores nothing.
func TestAccess_WhatIsListedIsEnough(t *testing.T) {
	t.Parallel()
	n := devtest.StartNATSAccount(t, devtest.NATSLimits{})
	for _, s := range []string{"ingress", "processor", "reconciler"} {
		core, logged := observer.New(zap.WarnLevel)
		c := user(t, n, s, zap.New(core))
		require.NoError(t, c.EnsureTopology(t.Context()))
		require.NoError(t, c.RequireAccess(t.Context()))
		require.NoError(t, c.Ready(t.Context()))
		require.NoError(t, c.Drift(t.Context()))
		require.Zero(t, logged.Len(), "%v", logged.All())
	}
	usage, err := admin(t, n).Usage(t.Context())
	require.NoError(t, err)
	require.Len(t, usage, 4)
	for _, u := range usage {
		require.Zero(t, u.Bytes, u.Stream)
	}
}

// The ingress and the reconciler do all they do with what is listed; see the processor's
// own test.
func TestAccess_OfTheIngressAndTheReconciler(t *testing.T) {
	t.Parallel()
	n := devtest.StartNATSAccount(t, devtest.NATSLimits{})
	core, logged := observer.New(zap.WarnLevel)
	in, r := user(t, n, "ingress", zap.New(core)), user(t, n, "reconciler", zap.New(core))
	ctx := t.Context()
	require.NoError(t, in.EnsureTopology(ctx))
	require.NoError(t, r.EnsureHeartbeats(ctx))
	heard := make(chan struct{}, 10)
	stop, err := r.Beats("ingress", func() { heard <- struct{}{} })
	require.NoError(t, err)
	defer stop()
	require.NoError(t, r.Ready(ctx)) // the subscription is there
	require.NoError(t, in.Beat(ctx, "ingress"))
	<-heard
	letter := func(id string) stream.DeadLetter {
		return stream.DeadLetter{ID: id, Reason: stream.ReasonUnreadable, RealmID: "1", Body: []byte(id), At: time.Now()}
	}
	for i, c := range []*stream.Conn{in, r} {
		require.NoError(t, c.Publish(ctx, env("1", i)))
		for j := range 3 {
			require.NoError(t, c.PublishDead(ctx, letter(fmt.Sprint(i, j))))
		}
	}
	require.NoError(t, in.PublishDeadWaiting(ctx, letter("waits")))
	require.NoError(t, r.PublishLater(ctx, env("1", 7)))
	require.NoError(t, r.PublishGaps(ctx, stream.GapMessage{RealmID: "1", ID: "g", Data: []byte("[]")}))
	_, err = r.Position(ctx)
	require.NoError(t, err)
	h, err := r.Heartbeats(ctx, "ingress", time.Minute)
	require.NoError(t, err)
	require.Len(t, h.Ages, 1)
	_, err = r.Lag(ctx, stream.Events, "processor")
	require.NoError(t, err)
	require.NoError(t, r.Ready(ctx))
	require.Zero(t, logged.FilterMessage("broker denies a subject").Len(), "%v", logged.All())
}

// What is missing is named with the remedy, at the start or in readiness, until it is
// allowed.
func TestAccess_WhatIsDeniedIsNamed(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ service, denied string }{
		{"ingress", "lf.event.>"},
		{"ingress", "lf.dead.>"},
		{"ingress", "$JS.API.STREAM.INFO.*"},
		{"processor", "lf.retry.>"},
		{"processor", "lf.dead.>"},
		{"processor", "$JS.API.CONSUMER.CREATE.>"},
		{"processor", "$JS.API.CONSUMER.MSG.NEXT.*.*"},
		{"reconciler", "lf.gap.>"},
		{"reconciler", "lf.beat.>"},
		{"reconciler", "_INBOX.reconciler.>"},
	} {
		t.Run(tc.service+" "+strings.TrimPrefix(tc.denied, "$"), func(t *testing.T) {
			t.Parallel()
			n := devtest.StartNATSAccount(t, devtest.NATSLimits{})
			require.NoError(t, admin(t, n).EnsureTopology(t.Context()))
			core, logged := observer.New(zap.WarnLevel)
			c := user(t, n, tc.service, zap.New(core), tc.denied)
			err := c.RequireAccess(t.Context())
			if err == nil {
				err = uses(t, c, tc.service)
			}
			var denied *stream.AccessError
			require.ErrorAs(t, err, &denied)
			require.Equal(t, tc.service, denied.Service)
			require.Equal(t, tc.denied, denied.Subject)
			require.ErrorContains(t, err, "the NATS user of the "+tc.service+" may not ")
			require.ErrorAs(t, c.Ready(t.Context()), &denied)
			require.Equal(t, 1, logged.FilterMessage("broker denies a subject").Len(), "%v", logged.All())
			allow(n, tc.service)
			n.Disconnect()
			require.Eventually(t, func() bool { return c.Ready(t.Context()) == nil }, 20*time.Second, 10*time.Millisecond)
		})
	}
}

// uses does what a service does all the time, until readiness names a denial.
func uses(t *testing.T, c *stream.Conn, service string) (err error) {
	t.Helper()
	if service == "reconciler" {
		stop, err := c.Beats("ingress", func() {})
		require.NoError(t, err)
		defer stop()
	}
	if service != "ingress" {
		consume(t, c, func(o *stream.ConsumeOptions) { *o = group3 })
	}
	require.Eventually(t, func() bool {
		err = c.Ready(t.Context())
		return errors.As(err, new(*stream.AccessError))
	}, 20*time.Second, 10*time.Millisecond)
	return err
}

// A publish that gets no answer because it is denied says so, to who waits for it.
func TestAccess_APublishThatIsDeniedSaysSo(t *testing.T) {
	t.Parallel()
	n := devtest.StartNATSAccount(t, devtest.NATSLimits{})
	require.NoError(t, admin(t, n).EnsureTopology(t.Context()))
	c := user(t, n, "ingress", nil, "lf.event.>")
	err := c.Publish(within(t, 500*time.Millisecond), env("1", 1))
	require.ErrorIs(t, err, stream.ErrNotDurable)
	require.ErrorContains(t, err, `may not publish to "lf.event.>"`)
}
