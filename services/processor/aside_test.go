package processor_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// neighbour is a realm whose messages come by the same consumer as those of realm.
func neighbour() string {
	for i := 0; ; i++ {
		id := fmt.Sprint(9130347000000000 + i)
		if envelope.Partition(id)%stream.Groups == envelope.Partition(realm)%stream.Groups {
			return id
		}
	}
}

// breakRealm has the server fail on everything about the realm.
func (b *bundle) breakRealm() {
	broken := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/company/"+realm+"/") }
	b.broken.Store(&broken)
}

// A realm that cannot be read has more messages than the consumer of its group may
// have under way: the others of the group are delivered all the same.
func TestProcessor_ARealmThatCannotBeReadHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.config.MaxAckPending, b.waitAfter = 10, 2
	next := neighbour()
	b.connect(next)
	var envs []*ledgerfeedv1.Envelope
	for range 2 * b.config.MaxAckPending {
		b.create("Bill", nil)
		envs = append(envs, b.webhooks()...)
	}
	require.Greater(t, len(envs), b.config.MaxAckPending)
	b.breakRealm()
	p := b.start()
	b.publish(envs...)
	bill, err := b.sim.Create(next, "Bill", nil)
	require.NoError(t, err)
	b.publish(b.webhooks()...)
	require.Eventually(t, func() bool { return b.a.all()[bill] != nil }, patient, 5*time.Millisecond, "the other realm waits")
	require.Len(t, b.a.all(), 1)

	b.broken.Store(nil)
	b.settle(p)
	b.requireEqual()
	b.a.requireOnce(t)
	require.Empty(t, b.dead())
}

// What waits keeps its count of tries, its history and the one sink it is for.
func TestProcessor_WhatWaitsAsideDiesOfItsOwnReasons(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.waitAfter = 1
	refs := []qbosim.Ref{b.create("Bill", nil), b.create("Bill", nil)}
	b.webhooks()
	broken := func(r *http.Request) bool { // on one record only, without saying so
		return strings.Contains(r.URL.RawQuery, "%27"+refs[0].ID+"%27") || strings.HasSuffix(r.URL.Path, "/"+refs[0].ID)
	}
	b.broken.Store(&broken)
	p := b.start()
	for _, ref := range refs {
		e := b.event(fromWebhook, &ledgerfeedv1.Event{Entity: "Bill", EntityId: ref.ID, Operation: updated, OccurredAt: timestamppb.New(b.clock.Now())})
		e.Sink = "b"
		b.publish(e)
	}
	require.Eventually(t, func() bool {
		lag, err := b.conn.Lag(t.Context(), stream.Waiting, "processor_waiting")
		return err == nil && lag.Stored == 1
	}, patient, 5*time.Millisecond, "it does not step aside")
	b.settle(p)
	require.Zero(t, b.a.count())
	require.Equal(t, 1, b.b.count())
	dead := b.dead()
	require.Equal(t, []stream.Reason{stream.ReasonPoison}, reasons(dead))
	require.Greater(t, dead[0].Attempts, 1, "those before it stepped aside count")
	require.NotEmpty(t, dead[0].FirstError)
	require.EqualValues(t, 1, p.Stats().Dead)
}
