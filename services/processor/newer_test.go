package processor_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// During an upgrade a newer ingress may publish what this version does not
// understand: it stays on the stream for a newer processor, and holds up nothing.
func TestProcessor_WhatIsNewerWaitsForANewerVersion(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	newer := b.event(fromWebhook, &ledgerfeedv1.Event{Entity: "Bill", EntityId: "1", Operation: updated})
	newer.Format = envelope.Format + 1
	data, err := proto.Marshal(newer)
	require.NoError(t, err)
	nc, err := nats.Connect(b.natsURL)
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "lf.event.00."+realm, data)
	require.NoError(t, err)

	bill := b.create("Bill", nil)
	b.publish(b.webhooks()...)
	require.Eventually(t, func() bool { return b.a.all()[bill] != nil }, patient, 5*time.Millisecond)
	require.Eventually(t, func() bool { return b.metric("ledgerfeed_processor_newer_messages_total") > 0 }, patient, 5*time.Millisecond)
	require.Empty(t, b.dead())
	idle, err := p.Idle(t.Context())
	require.NoError(t, err)
	require.False(t, idle, "it is still there")
}
