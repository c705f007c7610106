package processor_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

func TestProcessor_OneCallTellsOfSeveralEntityTypes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, name := range []string{"Bill", "Customer", "Payment", "Invoice"} {
		b.create(name, nil)
	}
	gone := b.create("Vendor", nil)
	require.NoError(t, b.sim.Delete(gone))
	p := b.start()
	b.deliver(p)
	b.requireEqual()
	require.Equal(t, 1, b.calls())
	b.a.requireOnce(t)
}

// A record whose write is older than its webhook says is not among what CDC shows.
func TestProcessor_WhatCDCDoesNotShowIsRead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	old := b.create("Bill", nil)
	b.webhooks()
	b.clock.Advance(time.Hour)
	fresh := b.create("Customer", nil)
	events := []*ledgerfeedv1.Event{{Id: "late", Entity: "Bill", EntityId: old.ID, Operation: updated, OccurredAt: timestamppb.New(b.clock.Now())}}
	for _, env := range b.webhooks() {
		events = append(events, env.GetEvents()...)
	}
	p := b.start()
	b.publish(envelope.New(fromWebhook, realm, "together", events, envelope.Meta{ReceivedAt: b.clock.Now()})...)
	b.settle(p)
	b.requireEqual()
	require.NotNil(t, b.a.last(t, fresh))
}

// While CDC fails it is the server's trouble, and later each type is read by itself.
func TestProcessor_WhereCDCFailsEachTypeIsRead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var asked atomic.Int64
	broken := func(r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/cdc") {
			asked.Add(1)
			return true
		}
		return false
	}
	b.broken.Store(&broken)
	b.create("Bill", nil)
	b.create("Customer", nil)
	p := b.start()
	b.deliver(p)
	b.requireEqual()
	require.Positive(t, asked.Load())
}
