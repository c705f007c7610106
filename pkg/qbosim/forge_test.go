package qbosim_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// verified are the events of all deliveries, whose signatures are right.
func (a *app) verified(t *testing.T) []webhook.Event {
	t.Helper()
	for _, p := range a.got() {
		_, err := webhook.Verify(p.Body, p.Header.Get("Intuit-Signature"), []secret.String{"verifier"})
		require.NoError(t, err)
	}
	return a.events(t)
}

// untrue are the events that claim a deletion of a record that nobody deleted or
// made inactive.
func (b *bundle) untrue(events []webhook.Event) []webhook.Event {
	b.Helper()
	var all []webhook.Event
	for _, e := range events {
		if e.Operation != ledgerfeedv1.Operation_OPERATION_DELETE {
			continue
		}
		info, ok := entity.Lookup(e.Entity)
		require.True(b, ok)
		require.Contains(b, info.Operations, "Delete")
		ref := qbosim.Ref{Realm: e.RealmID, Entity: info.Name, ID: e.EntityID}
		history := b.History(ref)
		require.NotEmpty(b, history, "%v", ref)
		if !slices.ContainsFunc(history, func(s qbosim.State) bool { return s.Operation == "Delete" }) {
			all = append(all, e)
		}
	}
	return all
}

func TestWrongDeletes_NameRecordsThatAreAlive(t *testing.T) {
	t.Parallel()
	run := func(seed uint64, faults qbosim.Faults) ([]string, []webhook.Event, *bundle) {
		a := newApp(t, always)
		b := subscribed(t, a, func(o *qbosim.Options) { o.Seed, o.Faults = seed, faults })
		for range 400 {
			_, err := b.Step(realm)
			require.NoError(t, err)
			b.Advance(time.Second)
		}
		b.flush()
		events := a.verified(t)
		return summary(events), b.untrue(events), b
	}
	plain, untrue, b := run(1, qbosim.Faults{})
	require.Empty(t, untrue)
	require.Zero(t, b.Stats().WebhookEventsForged)

	with, untrue, b := run(1, qbosim.Faults{WrongDeletes: 0.2})
	forged := b.Stats().WebhookEventsForged
	require.InDelta(t, 80, forged, 25)
	require.Len(t, with, len(plain)+forged, "they come beside the true ones")
	require.Greater(t, len(untrue), forged*2/3, "some are deleted later")
	entities := map[string]bool{}
	for _, e := range untrue {
		entities[e.Entity] = true
		require.False(t, e.OccurredAt.After(b.Now()))
	}
	for _, name := range []string{"Customer", "Invoice", "TimeActivity"} {
		require.True(t, entities[name], "%s in %v", name, entities)
	}
	again, _, _ := run(1, qbosim.Faults{WrongDeletes: 0.2})
	require.Equal(t, with, again)
	other, _, _ := run(2, qbosim.Faults{WrongDeletes: 0.2})
	require.NotEqual(t, with, other)
	more, _, _ := run(1, qbosim.Faults{WrongDeletes: 0.2, Duplicate: 0.1})
	slices.Sort(more)
	slices.Sort(with)
	require.Equal(t, slices.Compact(with), slices.Compact(more), "a second fault claims nothing else")

	_, untrue, b = run(1, qbosim.Faults{WrongDeletes: 0.2, FutureDeletes: 0.5})
	ahead := 0
	for _, e := range untrue {
		if by := e.OccurredAt.Sub(b.Now()); by > 0 {
			ahead++
			require.LessOrEqual(t, by, 366*24*time.Hour)
		}
	}
	require.InDelta(t, len(untrue)/2, ahead, 20)
}

// Every claim must be untrue when it is made, also beside a true deletion.
func TestWrongDeletes_ComeBesideCreationsAndNeverRepeatATrueOne(t *testing.T) {
	t.Parallel()
	a := newApp(t, always)
	b := subscribed(t, a, func(o *qbosim.Options) { o.Faults.WrongDeletes = 1 })
	ref := b.create("Invoice", nil)
	require.NoError(t, b.Delete(ref))
	vendor := b.create("Vendor", nil)
	require.NoError(t, b.Deactivate(vendor))
	b.create("Term", nil) // no webhook tells of its deletion, and nothing else is alive
	b.flush()
	require.Equal(t, []string{
		realm + " Invoice 1 CREATE", realm + " Invoice 1 DELETE", // untrue
		realm + " Invoice 1 DELETE",
		realm + " Vendor 1 CREATE", realm + " Vendor 1 DELETE", // untrue
		realm + " Vendor 1 DELETE",
		realm + " Term 1 CREATE",
	}, summary(a.verified(t)))
	require.Equal(t, 2, b.Stats().WebhookEventsForged)
}

func TestForgeDelete_ClaimsWhatItIsTold(t *testing.T) {
	t.Parallel()
	for _, format := range []qbosim.Format{qbosim.CloudEvents, qbosim.Legacy} {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			a := newApp(t, always)
			b := subscribed(t, a, func(o *qbosim.Options) { o.Format = format })
			ref := b.create("Customer", nil)
			before := b.Truth(realm)
			ahead := b.Now().Add(300 * 24 * time.Hour)
			require.NoError(t, b.ForgeDelete(ref, ahead))
			require.NoError(t, b.ForgeDelete(ref, time.Time{}))
			require.NoError(t, b.ForgeDelete(qbosim.Ref{Realm: realm, Entity: "bill", ID: "404"}, b.Now()))
			b.flush()
			events := a.verified(t)
			require.Equal(t, []string{
				realm + " Customer 1 CREATE", realm + " Customer 1 DELETE", realm + " Customer 1 DELETE", realm + " Bill 404 DELETE",
			}, summary(events))
			require.Equal(t, ahead, events[1].OccurredAt.UTC().Truncate(time.Second))
			require.Equal(t, b.Now(), events[2].OccurredAt.UTC().Truncate(time.Second))
			require.Equal(t, before, b.Truth(realm), "nothing happened")
			require.Len(t, b.query("SELECT * FROM Customer"), 1)
		})
	}
	b := setup(t)
	require.ErrorIs(t, b.ForgeDelete(qbosim.Ref{Realm: "1", Entity: "Bill", ID: "1"}, time.Time{}), qbosim.ErrUnknownRealm)
	require.ErrorIs(t, b.ForgeDelete(qbosim.Ref{Realm: realm, Entity: "Fax", ID: "1"}, time.Time{}), qbosim.ErrUnknownEntity)
	require.ErrorIs(t, b.ForgeDelete(qbosim.Ref{Realm: realm, Entity: "Term", ID: "1"}, time.Time{}), qbosim.ErrNotSupported)
	require.Error(t, b.ForgeDelete(qbosim.Ref{Realm: realm, Entity: "Bill"}, time.Time{}))
}

func TestUnknownRealms_ShareTheBodiesOfKnownOnes(t *testing.T) {
	t.Parallel()
	a := newApp(t, always)
	b := subscribed(t, a, func(o *qbosim.Options) { o.Faults.UnknownRealms = 0.3 })
	for range 200 {
		b.create("Bill", nil)
	}
	b.flush()
	companies, known := map[string]int{}, 0
	for _, e := range a.verified(t) {
		if e.RealmID == realm {
			known++
			continue
		}
		companies[e.RealmID]++
	}
	require.Equal(t, 200, known)
	unknown := b.Stats().WebhookEventsUnknown
	require.InDelta(t, 60, unknown, 20)
	require.Len(t, companies, 5)
	mixed := 0
	for _, body := range bodiesOf(a) {
		if strings.Contains(string(body), realm) && strings.Contains(string(body), `"intuitaccountid":"8888`) {
			mixed++
		}
	}
	require.Greater(t, mixed, 5)
	require.Equal(t, []string{realm}, b.Realms())
}

func TestSendUnknown_SendsAsManyAsAskedFor(t *testing.T) {
	t.Parallel()
	a := newApp(t, always)
	b := subscribed(t, a)
	require.NoError(t, b.SendUnknown("777", 30))
	require.NoError(t, b.SendUnknown("777", 15))
	b.flush()
	events := a.verified(t)
	require.Len(t, events, 45)
	seen := map[string]bool{}
	for _, e := range events {
		require.Equal(t, "777", e.RealmID)
		seen[e.ID] = true
	}
	require.Len(t, seen, 45, "each is an event of its own")
	require.ErrorContains(t, b.SendUnknown(realm, 1), "not unknown")
	require.Error(t, b.SendUnknown("", 1))
}

// What nobody acknowledged is sent by the next simulator, though no change made it.
func TestForge_SurvivesARestart(t *testing.T) {
	t.Parallel()
	a := newApp(t, always)
	o := journaled(t, func(o *qbosim.Options) { o.WebhookURL = a.server.URL })
	first := open(t, o)
	first.AddRealm(realm)
	first.Connect(realm)
	require.NoError(t, first.ForgeDelete(qbosim.Ref{Realm: realm, Entity: "Invoice", ID: "9"}, time.Time{}))
	require.NoError(t, first.SendUnknown("777", 2))
	require.NoError(t, first.Close())

	second := open(t, o)
	require.False(t, second.Settled())
	require.NoError(t, second.FlushWebhooks(t.Context()))
	events := a.verified(t)
	require.Len(t, events, 3)
	require.ElementsMatch(t, []string{realm, "777", "777"}, []string{events[0].RealmID, events[1].RealmID, events[2].RealmID})
	require.Equal(t, []string{realm}, second.Realms())
}

func TestControl_Forges(t *testing.T) {
	t.Parallel()
	a := newApp(t, always)
	b := subscribed(t, a)
	require.Equal(t, 200, b.control(http.MethodPost, "forge", `{"realm":"`+realm+`","entity":"Invoice","id":"5","at":"2027-06-01T00:00:00Z"}`, nil))
	require.Equal(t, 200, b.control(http.MethodPost, "forge", `{"realm":"`+realm+`","entity":"Invoice","id":"5"}`, nil))
	require.Equal(t, 200, b.control(http.MethodPost, "unknown", `{"realm":"777","count":3}`, nil))
	require.Equal(t, 404, b.control(http.MethodPost, "forge", `{"realm":"1","entity":"Invoice","id":"5"}`, nil))
	require.Equal(t, 400, b.control(http.MethodPost, "unknown", `{"realm":"`+realm+`"}`, nil))
	b.flush()
	events := a.verified(t)
	require.Len(t, events, 5)
	require.Equal(t, time.Date(2027, 6, 1, 0, 0, 0, 0, time.UTC), events[0].OccurredAt.UTC().Truncate(time.Second))
	require.Equal(t, 2, b.Stats().WebhookEventsForged)
	require.Equal(t, 3, b.Stats().WebhookEventsUnknown)
}

// A claim and a true deletion of the same state are two events: a fault that hits
// one need not hit the other.
func TestForgeDelete_MeetsFaultsOfItsOwn(t *testing.T) {
	t.Parallel()
	a := newApp(t, always)
	b := subscribed(t, a, func(o *qbosim.Options) { o.Faults.Drop = 0.5 })
	for range 40 {
		ref := b.create("Bill", nil)
		require.NoError(t, b.ForgeDelete(ref, time.Time{}))
		require.NoError(t, b.Delete(ref))
	}
	b.flush()
	deletions := map[string]int{}
	for _, e := range a.verified(t) {
		if e.Operation == ledgerfeedv1.Operation_OPERATION_DELETE {
			deletions[e.EntityID]++
		}
	}
	require.Contains(t, slices.Collect(maps.Values(deletions)), 1, "one came, the other was lost")
}
