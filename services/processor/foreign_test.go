package processor_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// from names the app of envelopes.
func from(app string, envs ...*ledgerfeedv1.Envelope) []*ledgerfeedv1.Envelope {
	for _, e := range envs {
		e.App = app
	}
	return envs
}

// Whoever holds the verifier token of a test app changes nothing of a company that the
// production app is connected to.
func TestForeign_AnotherAppChangesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	bill := b.create("Bill", nil)
	b.deliver(p)
	b.clock.Advance(time.Minute)
	require.NoError(t, b.sim.Update(bill, nil))
	calls, delivered := b.calls(), b.a.count()

	b.publish(from("sandbox", b.webhooks()...)...)
	gone := &ledgerfeedv1.Event{Entity: "Bill", EntityId: bill.ID, Operation: ledgerfeedv1.Operation_OPERATION_DELETE}
	b.publish(from("sandbox", b.event(fromWebhook, gone))...)
	merged := &ledgerfeedv1.Event{Entity: "Customer", EntityId: "1", MergedId: "2", Operation: ledgerfeedv1.Operation_OPERATION_MERGE}
	b.publish(from("sandbox", b.event(fromWebhook, merged))...)
	b.settle(p)
	require.Equal(t, calls, b.calls(), "nothing is read for it")
	require.Equal(t, delivered, b.a.count())
	require.EqualValues(t, 3, b.metric("ledgerfeed_processor_events_foreign_app_total"))
	dead := b.dead()
	require.Equal(t, []stream.Reason{stream.ReasonForeignApp}, reasons(dead))
	require.Equal(t, "sandbox", dead[0].App)
	require.Contains(t, dead[0].Detail, "signed by app sandbox, and the company is connected to app app")
	keys, err := b.store.Redis().Keys(t.Context(), "lf:1:merged:*").Result()
	require.NoError(t, err)
	require.Empty(t, keys, "its merges are not believed")

	// The same change from the right app is delivered.
	b.clock.Advance(time.Minute)
	require.NoError(t, b.sim.Update(bill, nil))
	b.deliver(p)
	b.requireEqual()
}

// Events of both apps about one record in one batch: only those of the right one count.
func TestForeign_IsTakenOutOfABatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bill := b.create("Bill", nil)
	ours := b.webhooks()
	theirs := &ledgerfeedv1.Event{Entity: "Bill", EntityId: bill.ID, Operation: ledgerfeedv1.Operation_OPERATION_DELETE}
	b.publish(append(from("sandbox", b.event(fromWebhook, theirs)), ours...)...)
	p := b.start()
	b.settle(p)
	require.Equal(t, []stream.Reason{stream.ReasonForeignApp}, reasons(b.dead()))
	b.requireEqual()
	require.Len(t, b.a.of(bill), 1)
}

// A flood of another app costs one dead letter a day, and counts the rest.
func TestForeign_AFloodMakesOneLetterADay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	for i := range 50 {
		b.publish(from("sandbox", many(realm, fmt.Sprint("flood ", i), 40)...)...)
	}
	b.settle(p)
	require.Len(t, b.dead(), 1)
	require.EqualValues(t, 50*40, b.metric("ledgerfeed_processor_events_foreign_app_total"))
	noted, err := b.store.Foreign(t.Context())
	require.NoError(t, err)
	require.Len(t, noted, 1)
	require.Equal(t, realm, noted[0].Realm)
	require.Equal(t, "sandbox", noted[0].App)
	require.Equal(t, "app", noted[0].Connected)
	require.EqualValues(t, 50*40, noted[0].Events)

	b.publish(from("staging", many(realm, "another", 1)...)...)
	b.clock.Advance(24 * time.Hour)
	b.settle(p)
	b.publish(from("sandbox", many(realm, "tomorrow", 1)...)...)
	b.settle(p)
	require.Len(t, b.dead(), 3)

	// A person who requeues a letter gets it back.
	letter := b.dead()[0]
	_, err = b.conn.Requeue(t.Context(), letter)
	require.NoError(t, err)
	b.settle(p)
	require.Len(t, b.dead(), 3)
}

// What names no app, or an earlier name of it, is not foreign.
func TestForeign_AnUnknownOrEarlierNameIsNotForeign(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		event, connected string
		aliases          []string
		foreign          bool
	}{
		"the same":                    {"app", "app", nil, false},
		"another":                     {"sandbox", "app", nil, true},
		"a connection without a name": {"sandbox", "", nil, false},
		"an envelope without a name":  {"", "app", nil, false},
		"renamed":                     {"live", "app", []string{"app=live"}, false},
		"renamed, and connected anew": {"app", "live", []string{"app=live"}, false},
		"renamed twice":               {"new", "app", []string{"app=live", "live=new"}, false},
		"renamed, and another":        {"sandbox", "app", []string{"app=live"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.config.AppAliases = tt.aliases
			require.NoError(t, b.store.Redis().HSet(t.Context(), "lf:1:conn:{"+realm+"}", "app", tt.connected).Err())
			p := b.start()
			b.create("Bill", nil)
			b.publish(from(tt.event, b.webhooks()...)...)
			b.settle(p)
			require.Equal(t, tt.foreign, len(b.dead()) > 0)
			if !tt.foreign {
				b.requireEqual()
			}
		})
	}
}

func TestConfig_AliasesOfAppsLeadSomewhere(t *testing.T) {
	for entry, ok := range map[string]bool{"old=new": true, "old": false, "=new": false, "old=": false, "a=a": false} {
		cfg := processor.DefaultProcessorConfig()
		cfg.AppAliases = []string{entry}
		require.Equal(t, ok, cfg.Validate() == nil, entry)
	}
	cfg := processor.DefaultProcessorConfig()
	cfg.AppAliases = []string{"a=b", "b=c", "c=a"}
	require.ErrorContains(t, cfg.Validate(), "lead back")
}
