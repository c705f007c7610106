package realmstatus_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/realmstatus"
)

func TestMain(m *testing.M) { os.Exit(devtest.Main(m)) }

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

type bundle struct {
	testing.TB
	store       *state.Store
	connections *connection.Store
	directory   *realmstatus.Directory
	now         time.Time
}

func setup(t testing.TB, redis string) *bundle {
	t.Helper()
	b := &bundle{TB: t, now: noon}
	clock := func() time.Time { return b.now }
	var err error
	b.store, err = state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(redis)}, Now: clock})
	require.NoError(t, err)
	t.Cleanup(func() { b.store.Close() })
	oauth, err := qbo.NewOAuth(qbo.OAuthOptions{ClientID: "c", ClientSecret: "s"})
	require.NoError(t, err)
	key := secret.String("k1:" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))))
	b.connections, err = connection.New(connection.Options{
		State: b.store, Config: connection.Config{Keys: []secret.String{key}}, Refresher: oauth, Now: clock,
	})
	require.NoError(t, err)
	b.directory, err = realmstatus.New(realmstatus.Options{State: b.store, Connections: b.connections, Now: clock})
	require.NoError(t, err)
	return b
}

func (b *bundle) connect(id string) {
	b.Helper()
	require.NoError(b, b.connections.Connect(b.Context(), id, "books", qbo.Token{Access: "a", Refresh: "r", AccessExpires: b.now.Add(time.Hour)}))
	b.connections.ScanSoon(b.Context(), id)
}

// scanned is what a scan leaves that found nothing missing.
func (b *bundle) scanned(id string) {
	b.Helper()
	to := b.now.Add(-2 * time.Minute)
	require.NoError(b, b.store.AdvanceCursors(b.Context(), id, map[string]time.Time{"Invoice": to, "Bill": to, "TaxCode": b.now.AddDate(0, -3, 0)}))
	require.NoError(b, b.store.Schedule(b.Context(), id, b.now))
	_, err := b.store.ClaimDue(b.Context(), []int{state.Shard(id)}, 0, time.Minute, 1000)
	require.NoError(b, err)
	require.NoError(b, b.store.Done(b.Context(), id, 24*time.Hour))
}

func (b *bundle) is(id string, want realmstatus.State, why string) {
	b.Helper()
	r, err := b.directory.Get(b.Context(), id)
	require.NoError(b, err)
	require.Equal(b, want, r.Health, r.Why)
	require.Contains(b, r.Why, why)
	require.Equal(b, want == realmstatus.Live, r.Why == "")
}

func TestDirectory_KnowsNames(t *testing.T) {
	t.Parallel()
	b := setup(t, devtest.Redis(t))
	b.connect("1")
	b.connect("2")
	require.NoError(t, b.store.SetCompany(t.Context(), state.Company{Realm: "2", Name: "Larry's", ReadAt: b.now}))
	page, err := b.directory.List(t.Context(), realmstatus.Query{})
	require.NoError(t, err)
	require.Equal(t, []string{"", "Larry's"}, []string{page.Realms[0].Company, page.Realms[1].Company})
	r, err := b.directory.Get(t.Context(), "2")
	require.NoError(t, err)
	require.Equal(t, "Larry's", r.Company)
}

// The life of a company, state by state.
func TestDirectory_TellsTheStates(t *testing.T) {
	t.Parallel()
	b := setup(t, devtest.Redis(t))
	ctx := t.Context()
	_, err := b.directory.Get(ctx, "1")
	require.ErrorIs(t, err, connection.ErrNotConnected)
	b.connect("1")
	b.is("1", realmstatus.CatchingUp, "first load")
	b.scanned("1")
	b.is("1", realmstatus.Live, "")
	// The cursor of an entity that QuickBooks refuses stays where it is.
	require.NoError(t, b.store.AdvanceCursors(ctx, "1", map[string]time.Time{"Budget": b.now.AddDate(0, -3, 0)}))
	b.is("1", realmstatus.GapSuspected, "Budget was last covered up to")
	require.NoError(t, b.store.Refused(ctx, "1", state.Refusal{Entity: "Budget", Way: state.RefusedByQuery, At: b.now, Lasting: true}))
	b.is("1", realmstatus.Live, "")
	require.NoError(t, b.store.SaveScan(ctx, "1", state.Scan{ID: "x"}))
	b.is("1", realmstatus.CatchingUp, "1 scans found missing")
	require.NoError(t, b.store.DropScan(ctx, "1", "x"))

	// Its authorisation lapses, and comes back a day later.
	b.now = b.now.Add(time.Hour)
	require.NoError(t, b.connections.SetState(ctx, "1", connection.ReauthRequired, "Intuit refused the refresh token (invalid_grant)"))
	b.is("1", realmstatus.Parked, "invalid_grant")
	b.now = b.now.Add(24 * time.Hour)
	b.connect("1")
	b.is("1", realmstatus.GapSuspected, "nothing could be read from 2026-11-26 13:00:00 to 2026-11-27 13:00:00")
	b.now = b.now.Add(time.Minute)
	b.scanned("1")
	b.is("1", realmstatus.Live, "")

	// An outage of ours: a scan that began before its end does not count.
	b.now = b.now.Add(time.Hour)
	require.NoError(t, b.store.AddOutage(ctx, state.Outage{Kind: state.OutageBroker, From: b.now.Add(-time.Minute), To: b.now}))
	b.is("1", realmstatus.GapSuspected, "an outage of ours")
	require.NoError(t, b.store.SetPace(ctx, "1", state.Pace{Scanned: b.now.Add(-time.Second)}))
	b.is("1", realmstatus.GapSuspected, "an outage of ours")
	require.NoError(t, b.store.SetPace(ctx, "1", state.Pace{Scanned: b.now.Add(time.Second)}))
	require.NoError(t, b.store.SaveScan(ctx, "1", state.Scan{ID: "x"}))
	b.is("1", realmstatus.CatchingUp, "1 scans found missing")
	require.NoError(t, b.store.DropScan(ctx, "1", "x"))
	b.is("1", realmstatus.Live, "")
	require.NoError(t, b.store.SetLoaded(ctx, "1", "Vendor", b.now))
	b.is("1", realmstatus.CatchingUp, "1 kinds of record are being loaded")
	require.NoError(t, b.store.SetLoaded(ctx, "1", "Vendor", time.Time{}))
	_, err = b.store.NoteWatch(ctx, b.now, true, time.Minute)
	require.NoError(t, err)
	_, err = b.store.NoteWatch(ctx, b.now.Add(50*time.Second), false, time.Minute)
	require.NoError(t, err)
	b.is("1", realmstatus.Live, "")
	_, err = b.store.NoteWatch(ctx, b.now.Add(90*time.Second), false, time.Minute)
	require.NoError(t, err)
	b.is("1", realmstatus.GapSuspected, "no ingress was heard of")
	b.now = b.now.Add(2 * time.Minute)
	_, err = b.store.NoteWatch(ctx, b.now, true, time.Minute)
	require.NoError(t, err)
	b.is("1", realmstatus.GapSuspected, "an outage of ours")
	b.now = b.now.Add(time.Minute)
	b.scanned("1")
	b.is("1", realmstatus.Live, "")

	// Nobody scans it.
	b.now = b.now.Add(24*time.Hour + 59*time.Minute)
	b.is("1", realmstatus.Live, "")
	b.now = b.now.Add(2 * time.Minute)
	b.is("1", realmstatus.GapSuspected, "no reconciler makes it")
	claimed, err := b.store.ClaimDue(ctx, []int{state.Shard("1")}, 0, time.Minute, 1)
	require.NoError(t, err)
	require.Equal(t, []string{"1"}, claimed)
	b.is("1", realmstatus.Live, "")

	// It is scanned, but one kind of record never gets to its end.
	b.now = b.now.AddDate(0, 0, 30)
	require.NoError(t, b.store.AdvanceCursors(ctx, "1", map[string]time.Time{"Bill": b.now}))
	require.NoError(t, b.store.Done(ctx, "1", time.Minute))
	b.is("1", realmstatus.GapSuspected, "Invoice was last covered up to 2026-11-27")
	require.NoError(t, b.store.Done(ctx, "1", state.Never))
	b.is("1", realmstatus.GapSuspected, "not on the schedule")

	require.NoError(t, b.connections.SetState(ctx, "1", connection.Parked, "unpaid"))
	b.is("1", realmstatus.Parked, "unpaid")
	require.NoError(t, b.connections.Disconnect(ctx, "1"))
	b.is("1", realmstatus.Disconnected, "by request")
}

// A company that Intuit refuses has a state of its own, with Intuit's words.
func TestDirectory_TellsWhatIntuitRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t, devtest.Redis(t))
	ctx := t.Context()
	for _, id := range []string{"1", "2"} {
		b.connect(id)
		b.scanned(id)
	}
	for s, to := range map[realmstatus.State]connection.State{
		realmstatus.NoAccess: connection.NoAccess, realmstatus.SubscriptionEnded: connection.SubscriptionEnded, realmstatus.WrongEnvironment: connection.WrongEnvironment,
	} {
		_, err := b.connections.NoteAccessRefusal(ctx, "1", connection.AccessRefusal{As: to, Message: "6190 Invalid Company Status"}, time.Minute)
		require.NoError(t, err)
		b.is("1", realmstatus.GapSuspected, "6190 Invalid Company Status")
		done, err := b.connections.Refuse(ctx, "1", to, "Intuit says so", time.Hour)
		require.NoError(t, err)
		require.True(t, done)
		b.is("1", s, "Intuit says so")
		page, err := b.directory.List(ctx, realmstatus.Query{States: []realmstatus.State{s}})
		require.NoError(t, err)
		require.Len(t, page.Realms, 1)
		sum, err := b.directory.Summary(ctx, 0)
		require.NoError(t, err)
		require.Equal(t, map[realmstatus.State]int{realmstatus.Live: 1, s: 1}, sum.Counts)
		was, err := b.connections.Answered(ctx, "1")
		require.NoError(t, err)
		require.Equal(t, to, was)
		b.now = b.now.Add(time.Minute)
		b.scanned("1")
		b.is("1", realmstatus.Live, "")
	}
	for _, id := range []string{"1", "2"} {
		_, err := b.store.NoteRefused(ctx, "books", id, state.AppRefusal{By: state.RefusedByAPI, Message: "3100"})
		require.NoError(t, err)
	}
	b.is("1", realmstatus.GapSuspected, "Intuit refuses app books")
	_, err := b.store.NoteAnswered(ctx, "books", state.RefusedByAPI)
	require.NoError(t, err)
	b.is("1", realmstatus.Live, "")
}

func TestDirectory_FiltersByState(t *testing.T) {
	t.Parallel()
	b := setup(t, devtest.Redis(t))
	ctx := t.Context()
	var live []string
	for n := range 30 {
		id := fmt.Sprint(100 + n)
		b.connect(id)
		switch {
		case n%10 == 3:
		case n%10 == 7:
			require.NoError(t, b.connections.SetState(ctx, id, connection.Parked, "test"))
		case n == 29:
			require.NoError(t, b.connections.Disconnect(ctx, id))
		default:
			b.scanned(id)
			live = append(live, id)
		}
	}
	walk := func(q realmstatus.Query) (ids []string) {
		for {
			page, err := b.directory.List(ctx, q)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page.Realms), max(q.Limit, 1))
			for _, r := range page.Realms {
				ids = append(ids, r.RealmID)
			}
			if page.Next == "" {
				return ids
			}
			q.After = page.Next
		}
	}
	for _, limit := range []int{1, 4, 30} {
		require.Len(t, walk(realmstatus.Query{Limit: limit}), 30)
		require.Equal(t, live, walk(realmstatus.Query{Limit: limit, States: []realmstatus.State{realmstatus.Live}}))
		require.Equal(t, []string{"103", "113", "123"}, walk(realmstatus.Query{Limit: limit, States: []realmstatus.State{realmstatus.CatchingUp}}))
		require.Equal(t, []string{"107", "117", "127", "129"}, walk(realmstatus.Query{Limit: limit, States: []realmstatus.State{realmstatus.Parked, realmstatus.Disconnected}}))
		require.Equal(t, []string{"110", "111", "112", "113"}, walk(realmstatus.Query{Limit: limit, Prefix: "11"})[:4])
		require.Empty(t, walk(realmstatus.Query{Limit: limit, States: []realmstatus.State{realmstatus.GapSuspected}}))
		require.Empty(t, walk(realmstatus.Query{Limit: limit, App: "other"}))
	}
	sum, err := b.directory.Summary(ctx, 0)
	require.NoError(t, err)
	require.Equal(t, 30, sum.Total)
	require.Equal(t, map[realmstatus.State]int{realmstatus.Live: len(live), realmstatus.CatchingUp: 3, realmstatus.Parked: 3, realmstatus.Disconnected: 1}, sum.Counts)
	b.connect("500")
	old, err := b.directory.Summary(ctx, time.Minute)
	require.NoError(t, err)
	require.Equal(t, sum, old, "young enough")
}

// Ten thousand companies: one page, a page of the few that are catching up, and the
// count of all.
func BenchmarkDirectory(b *testing.B) {
	const realms = 10_000
	d := setup(b, devtest.RealRedis(b))
	for n := range realms {
		id := fmt.Sprint(900_000 + n)
		d.connect(id)
		if n%1000 != 0 {
			d.scanned(id)
		}
	}
	b.Run("page", func(b *testing.B) {
		for b.Loop() {
			if page, err := d.directory.List(b.Context(), realmstatus.Query{After: "905000"}); err != nil || len(page.Realms) != 100 {
				b.Fatal(len(page.Realms), err)
			}
		}
	})
	b.Run("catching up", func(b *testing.B) {
		for b.Loop() {
			if page, err := d.directory.List(b.Context(), realmstatus.Query{States: []realmstatus.State{realmstatus.CatchingUp}}); err != nil || len(page.Realms) != 10 {
				b.Fatal(len(page.Realms), err)
			}
		}
	})
	b.Run("summary", func(b *testing.B) {
		for b.Loop() {
			if sum, err := d.directory.Summary(b.Context(), 0); err != nil || sum.Total != realms {
				b.Fatal(sum, err)
			}
		}
	})
}
