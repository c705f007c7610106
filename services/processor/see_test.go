package processor_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

func (b *bundle) coverage() state.Coverage {
	b.t.Helper()
	weeks, err := b.store.WeeklyCoverage(b.t.Context(), realm, 1)
	require.NoError(b.t, err)
	return weeks[0]
}

// Each change that a webhook told of first counts once, however often its webhook comes.
func TestProcessor_CountsWhatWebhooksTellOfFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create("Invoice", nil)
	b.create("Invoice", nil)
	envs := b.webhooks()
	b.clock.Advance(7 * time.Second)
	p := b.start()
	b.publish(envs...)
	b.settle(p)
	create := state.Kind{Entity: "Invoice", Operation: "create"}
	require.Eventually(t, func() bool { return b.coverage()[create].Told == 2 }, patient, 10*time.Millisecond)
	for _, e := range envs {
		e.Id += "/again"
	}
	b.publish(envs...)
	b.settle(p)
	p.stop() // which notes what is not noted yet
	told := b.coverage()[create]
	require.EqualValues(t, 2, told.Told)
	require.EqualValues(t, 2, told.Delivered)
	require.Zero(t, told.Gaps)
	require.Greater(t, told.MeanDelivery(), 6*time.Second)
}

// keeper is a sink that keeps gaps.
type keeper struct {
	*memory
	fail int
	kept chan sink.Gap
}

func (k *keeper) KeepGaps(_ context.Context, gaps []sink.Gap) error {
	if k.fail > 0 {
		k.fail--
		return errors.New("not now")
	}
	for _, g := range gaps {
		k.kept <- g
	}
	return nil
}

func (k *keeper) next(t *testing.T) sink.Gap {
	t.Helper()
	select {
	case g := <-k.kept:
		return g
	case <-time.After(patient):
		require.Fail(t, "no gap came")
		return sink.Gap{}
	}
}

// A gap goes to the sinks that keep them, and once more when its webhook comes after all.
func TestProcessor_HandsGapsToTheSinksThatKeepThem(t *testing.T) {
	t.Parallel()
	b := setup(t)
	invoice := b.create("Invoice", nil)
	truth := latest(t, b, invoice)
	g := state.Gap{
		Realm: realm, Ref: state.Ref{Entity: "Invoice", ID: invoice.ID}, Version: truth.Version, Found: b.clock.Now(),
		Event: truth.LastUpdated, Operation: "create", Source: "cdc", Verdict: state.VerdictLost,
	}
	data, err := json.Marshal([]state.Gap{g})
	require.NoError(t, err)
	require.NoError(t, b.conn.PublishGaps(t.Context(), stream.GapMessage{RealmID: realm, ID: "1", Data: data}))
	require.NoError(t, b.conn.PublishGaps(t.Context(), stream.GapMessage{RealmID: realm, ID: "2", Data: []byte("no gap")}))
	_, err = b.store.NoteGaps(t.Context(), realm, []state.Gap{g})
	require.NoError(t, err)

	k := &keeper{memory: b.a, fail: 1, kept: make(chan sink.Gap, 10)}
	o := b.options()
	o.Sinks = []processor.Sink{k}
	p := b.run(o)
	got := k.next(t)
	require.Equal(t, "lost", got.Verdict)
	require.Equal(t, invoice.ID, got.ID)
	require.Zero(t, got.Late)
	require.True(t, got.Event.Equal(truth.LastUpdated))

	b.clock.Advance(time.Hour)
	b.publish(b.webhooks()...)
	b.settle(p)
	got = k.next(t)
	require.Equal(t, "late", got.Verdict)
	require.Equal(t, truth.Version, got.Version)
	require.False(t, got.Late.IsZero())
}

var _ processor.GapKeeper = (*keeper)(nil)
