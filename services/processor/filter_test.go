package processor_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/services/processor"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

func TestProcessor_ASinkIsGivenWhatItsFilterSays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.connect(other)
	b.config.SinkFilters = []string{"b realm=" + realm + " entity=Invoice|bill operation=create|delete"}
	p := b.start()
	invoice := b.create("Invoice", nil)
	bill := b.create("Bill", nil)
	payment := b.create("Payment", nil)
	elsewhere, err := b.sim.Create(other, "Bill", nil)
	require.NoError(t, err)
	b.deliver(p)
	require.NoError(t, b.sim.Update(invoice, nil))
	b.deliver(p)
	require.NoError(t, b.sim.Delete(bill))
	b.deliver(p)

	b.requireEqual(b.a)
	require.Len(t, b.b.of(invoice), 1, "created, and not updated")
	require.True(t, b.b.last(t, bill).GetDeleted())
	require.Empty(t, b.b.of(payment))
	require.Empty(t, b.b.of(elsewhere))
	require.Positive(t, b.metric("ledgerfeed_processor_changes_filtered_total"))

	// What it does not want is not missing: a scan finds the same versions.
	for _, c := range b.a.all() {
		require.LessOrEqual(t, c.GetVersion(), b.marksOf(c, "b"), "%v", c)
	}
}

func (b *bundle) marksOf(c *ledgerfeedv1.Change, sink string) int64 {
	b.t.Helper()
	if c.GetRealmId() != realm {
		return c.GetVersion() // marks looks in the first realm
	}
	return b.marks(sink, c.GetEntity(), c.GetEntityId()).Version
}

func TestProcessor_WhatNoSinkWantsCostsNoCall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.config.SinkFilters = []string{"a entity=Invoice", "b entity=Invoice"}
	p := b.start()
	calls := b.calls()
	bill := b.create("Bill", nil)
	b.deliver(p)
	require.NoError(t, b.sim.Update(bill, nil))
	b.deliver(p)
	require.Equal(t, calls, b.calls())
	require.Zero(t, b.a.count()+b.b.count())
	require.GreaterOrEqual(t, b.marks("a", "Bill", bill.ID).Version, b.sim.Truth(realm)[bill].Version)
}

// What a scan found may have been a creation: in doubt the sink is given it.
func TestProcessor_AScanPassesAFilterOfOperations(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.config.SinkFilters = []string{"b operation=create"}
	p := b.start()
	bill := b.create("Bill", nil)
	b.webhooks()
	b.publish(b.event(ledgerfeedv1.Source_SOURCE_CDC, &ledgerfeedv1.Event{
		Entity: "Bill", EntityId: bill.ID, Operation: updated, Version: b.sim.Truth(realm)[bill].Version,
	}))
	b.settle(p)
	b.requireEqual()
}

func TestProcessor_RefusesAFilterOfNoSink(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.config.SinkFilters = []string{"c entity=Bill"}
	_, err := processor.New(b.options())
	require.ErrorContains(t, err, `no sink is named "c"`)
}

// A sink that was not given something is given it by a replay, once its filter is
// gone.
func TestProcessor_AReplayBringsWhatAFilterKeptBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.config.SinkFilters = []string{"b entity=Invoice"}
	p := b.start()
	bill := b.create("Bill", nil)
	b.deliver(p)
	replay := func() *ledgerfeedv1.Envelope {
		env := b.event(fromReplay, &ledgerfeedv1.Event{Entity: "Bill", EntityId: bill.ID, Operation: updated})
		env.Sink = "b"
		return env
	}
	b.clock.Advance(time.Hour)
	b.publish(replay())
	b.settle(p)
	require.Empty(t, b.b.of(bill))
	p.stop()

	b.config.SinkFilters = nil
	p = b.start()
	b.publish(replay())
	b.settle(p)
	require.Len(t, b.b.of(bill), 1)
	require.Len(t, b.a.of(bill), 1)
	b.requireEqual()
}

// A filter lets more through than before: what it kept back is loaded, once every replica
// has the new one.
func TestProcessor_AFilterThatIsWidenedHasTheRestLoaded(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ before, after string }{
		"another entity":    {"b entity=Invoice", "b entity=Invoice|Bill"},
		"no filter":         {"b entity=Invoice operation=create", ""},
		"another operation": {"b operation=delete", "b operation=create|update|delete"},
		"another realm":     {"b realm=" + other, "b realm=" + other + "|" + realm},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.rememberEvery = time.Hour // they look when they are told to
			b.config.SinkFilters = []string{tc.before}
			old := b.start()
			bill := b.create("Bill", nil)
			b.deliver(old)
			require.Empty(t, b.b.of(bill))
			cursor := map[string]time.Time{"Bill": b.clock.Now().Truncate(time.Second)}
			require.NoError(t, b.store.AdvanceCursors(t.Context(), realm, cursor))
			cursors := func() map[string]time.Time {
				all, err := b.store.Cursors(t.Context(), realm)
				require.NoError(t, err)
				return all
			}

			b.config.SinkFilters = nil
			if tc.after != "" {
				b.config.SinkFilters = []string{tc.after}
			}
			p := b.start()
			require.Eventually(t, func() bool {
				replicas, err := b.store.Replicas(t.Context(), "processor")
				return err == nil && len(replicas) == 2
			}, patient, time.Millisecond)
			require.NoError(t, p.EnlistAgain(t.Context()))
			require.Equal(t, cursor, cursors(), "the other replica would keep it back once more")
			old.stop()
			require.Eventually(t, func() bool { // a replica may be listed for a moment after its end
				return p.EnlistAgain(t.Context()) == nil && len(cursors()) == 0
			}, patient, 10*time.Millisecond)
			require.LessOrEqual(t, b.marks("b", "Bill", bill.ID).Version, int64(1))
			require.Positive(t, b.marks("a", "Bill", bill.ID).Version)
			due, err := b.store.Due(t.Context(), realm)
			require.NoError(t, err)
			require.False(t, due.After(b.clock.Now()))

			// As the scan finds it.
			b.publish(b.event(ledgerfeedv1.Source_SOURCE_QUERY, &ledgerfeedv1.Event{
				Entity: "Bill", EntityId: bill.ID, Operation: updated, Version: b.sim.Truth(realm)[bill].Version,
			}))
			b.settle(p)
			require.Len(t, b.b.of(bill), 1)
			require.Len(t, b.a.of(bill), 1)

			// Once.
			require.NoError(t, b.store.AdvanceCursors(t.Context(), realm, cursor))
			require.NoError(t, p.EnlistAgain(t.Context()))
			p.stop()
			b.settle(b.start())
			require.Equal(t, cursor, cursors())
		})
	}
}

// One that lets less through costs nothing.
func TestProcessor_AFilterThatIsNarrowedMovesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	bill := b.create("Bill", nil)
	b.deliver(p)
	p.stop()
	cursor := map[string]time.Time{"Bill": b.clock.Now().Truncate(time.Second)}
	require.NoError(t, b.store.AdvanceCursors(t.Context(), realm, cursor))
	b.config.SinkFilters = []string{"b entity=Invoice"}
	p = b.start()
	b.settle(p)
	require.NoError(t, p.EnlistAgain(t.Context()))
	cursors, err := b.store.Cursors(t.Context(), realm)
	require.NoError(t, err)
	require.Equal(t, cursor, cursors)
	require.Equal(t, b.sim.Truth(realm)[bill].Version, b.marks("b", "Bill", bill.ID).Version)
}
