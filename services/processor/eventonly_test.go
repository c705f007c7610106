package processor_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

func TestProcessor_DeliversTheEventAloneWhereSetSo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.connect(other)
	b.config.EventOnly = []string{realm + "/Bill"}
	p := b.start()
	calls := b.calls()
	bill := b.create("Bill", nil)
	b.deliver(p)
	require.Equal(t, calls, b.calls(), "it costs no call")
	c := b.a.last(t, bill)
	require.Empty(t, c.GetDocument())
	require.False(t, c.GetDeleted())
	require.Equal(t, ledgerfeedv1.Operation_OPERATION_CREATE, c.GetOperation())

	b.clock.Advance(3 * time.Second)
	require.NoError(t, b.sim.Delete(bill))
	b.deliver(p)
	require.True(t, b.a.last(t, bill).GetDeleted())
	require.Equal(t, calls+1, b.calls(), "a deletion is a claim until it is read")

	elsewhere, err := b.sim.Create(other, "Bill", nil)
	require.NoError(t, err)
	b.deliver(p)
	require.NotEmpty(t, b.a.last(t, elsewhere).GetDocument(), "another realm's is read")
	b.a.requireOrdered(t)
}

// Two changes within a second that webhooks tell of without its fraction are two
// events; one that comes again later is none.
func TestProcessor_EventsOfOneSecondAreTwo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.config.EventOnly = []string{"Bill"}
	p := b.start()
	second := b.clock.Now().Truncate(time.Second)
	tell := func(id string) {
		b.publish(b.event(fromWebhook, &ledgerfeedv1.Event{Id: id, Entity: "Bill", EntityId: "7", Operation: updated, OccurredAt: timestamppb.New(second)}))
		b.settle(p)
	}
	tell("1")
	tell("2")
	require.Equal(t, 2, b.a.count())
	b.a.requireOnce(t)
	b.clock.Advance(5 * time.Second)
	tell("3") // received later: the same second, now all of it is covered
	tell("3 again")
	require.Equal(t, 3, b.a.count())
}

// A scan that finds the version the event stood for has nothing to tell.
func TestProcessor_AScanAfterTheEventIsCovered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.config.EventOnly = []string{"Bill"}
	p := b.start()
	bill := b.create("Bill", nil)
	b.deliver(p)
	b.clock.Advance(time.Minute)
	require.NoError(t, b.sim.Update(bill, nil))
	b.webhooks() // lost
	version := b.sim.Truth(realm)[bill].Version
	found := func() {
		b.publish(b.event(ledgerfeedv1.Source_SOURCE_CDC, &ledgerfeedv1.Event{Entity: "Bill", EntityId: bill.ID, Operation: updated, Version: version}))
		b.settle(p)
	}
	found()
	require.Equal(t, version, b.a.last(t, bill).GetVersion())
	require.False(t, qbo.IsTombstone(version))
	found()
	require.Equal(t, 2, b.a.count())
}
