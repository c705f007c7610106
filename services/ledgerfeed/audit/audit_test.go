package audit_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/audit"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

func TestMain(m *testing.M) { os.Exit(devtest.Main(m)) }

const realm = "9130347712345678"

// bundle is a QuickBooks, and a table that a test fills by itself.
type bundle struct {
	t     *testing.T
	mu    sync.Mutex // guards now
	now   time.Time
	sim   *qbosim.Sim
	api   *httptest.Server
	after func() // called after each call of the API; set before the first
	// failing is how many of the next calls the server fails on.
	failing atomic.Int64
	// refuse answers a call in place of QuickBooks; set before the first.
	refuse func(w http.ResponseWriter, r *http.Request) bool
	table  *postgres.Sink
	o      audit.Options
	token  secret.String
}

func (b *bundle) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *bundle) advance(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

// Token and Rejected are of one token that never ends.
func (b *bundle) Token(context.Context, string) (secret.String, error) { return b.token, nil }

func (b *bundle) Rejected(context.Context, string, secret.String) error { return nil }

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{t: t, now: time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)}
	var err error
	b.sim, err = qbosim.New(qbosim.Options{
		Seed: 7, Now: b.clock, ClientID: "app", ClientSecret: "hush", AccessTokenTTL: 1000 * time.Hour,
		Limits: qbosim.Limits{PerMinute: 1 << 20, Concurrent: 1 << 10},
	})
	require.NoError(t, err)
	b.api = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b.failing.Add(-1) >= 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if b.refuse != nil && b.refuse(w, r) {
			return
		}
		b.sim.Handler().ServeHTTP(w, r)
		if b.after != nil {
			b.after()
		}
	}))
	t.Cleanup(func() {
		b.api.Close()
		require.NoError(t, b.sim.Close())
	})
	b.sim.AddRealm(realm)
	access, _ := b.sim.Connect(realm)
	b.token = access
	client, err := qbo.New(qbo.Options{BaseURL: b.api.URL, Tokens: b})
	require.NoError(t, err)
	store, err := state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(devtest.Redis(t))}})
	require.NoError(t, err)
	t.Cleanup(func() { store.Close() })
	b.table, err = postgres.Open(t.Context(), postgres.Options{URL: secret.String(devtest.Postgres(t))})
	require.NoError(t, err)
	t.Cleanup(func() { b.table.Close() })
	b.o = audit.Options{
		State: store, QBO: client, Table: b.table, Sink: "postgres", Realms: []string{realm}, Entities: []string{"Invoice", "TimeActivity"},
		Grace: audit.DefaultGrace, Settle: 500 * time.Millisecond, Now: b.clock,
	}
	return b
}

func (b *bundle) create(name string) qbosim.Ref {
	b.t.Helper()
	ref, err := b.sim.Create(realm, name, nil)
	require.NoError(b.t, err)
	return ref
}

// deliver gives the table the present state of a record.
func (b *bundle) deliver(refs ...qbosim.Ref) {
	b.t.Helper()
	for _, ref := range refs {
		truth := b.sim.Truth(realm)[ref]
		require.NoError(b.t, b.table.Write(b.t.Context(), []*ledgerfeedv1.Change{{
			RealmId: realm, Entity: ref.Entity, EntityId: ref.ID, Version: truth.Version, SyncToken: truth.SyncToken, Deleted: truth.Deleted,
			LastUpdated: timestamppb.New(truth.LastUpdated), LearnedAt: timestamppb.New(truth.LastUpdated), Document: []byte(`{}`),
		}}))
	}
}

// audit returns the verdicts by entity.
func (b *bundle) audit() (map[string]state.Audit, audit.Report, error) {
	b.t.Helper()
	report, err := audit.Run(b.t.Context(), b.o)
	verdicts := map[string]state.Audit{}
	for _, v := range report.Verdicts {
		verdicts[v.Entity] = v
	}
	return verdicts, report, err
}

func TestAudit_LeavesToWebhooksWhatIsYoung(t *testing.T) {
	b := setup(t)
	old, gone := b.create("Invoice"), b.create("Invoice")
	b.deliver(old, gone)
	b.advance(time.Hour)
	b.create("Invoice")
	require.NoError(t, b.sim.Update(old, nil))
	require.NoError(t, b.sim.Delete(gone))
	b.advance(time.Minute)
	verdicts, report, err := b.audit()
	require.NoError(t, err)
	require.Equal(t, audit.NoGap, verdicts["Invoice"].Verdict, "%+v", verdicts["Invoice"])
	require.Equal(t, b.clock().Add(-2*time.Minute), report.UpTo)
	require.True(t, report.Whole())

	b.advance(2 * time.Minute)
	verdicts, report, err = b.audit()
	require.NoError(t, err)
	v := verdicts["Invoice"]
	require.Equal(t, []int{1, 1, 1, 2}, []int{v.Missing, v.Stale, v.Extra, v.Records}, "%+v", v)
	require.Equal(t, audit.Gaps, v.Verdict)
	require.Equal(t, 3, report.Gaps())
	require.False(t, report.Whole())
	require.Equal(t, audit.NoGap, verdicts["TimeActivity"].Verdict)
	kept, err := b.o.State.Audits(t.Context(), realm)
	require.NoError(t, err)
	require.Equal(t, v, kept[0])
}

// What is on its way when the audit looks is waited for, also where nobody tells when it
// was deleted.
func TestAudit_WaitsForWhatIsOnItsWay(t *testing.T) {
	b := setup(t)
	activity := b.create("TimeActivity")
	b.deliver(activity)
	b.advance(time.Hour)
	invoice := b.create("Invoice")
	require.NoError(t, b.sim.Delete(activity))
	b.o.Settle = time.Minute
	go func() {
		timer := time.NewTimer(500 * time.Millisecond)
		defer timer.Stop()
		<-timer.C
		b.deliver(activity, invoice)
	}()
	verdicts, _, err := b.audit()
	require.NoError(t, err)
	require.Equal(t, audit.NoGap, verdicts["TimeActivity"].Verdict, "%+v", verdicts["TimeActivity"])
	require.Equal(t, audit.NoGap, verdicts["Invoice"].Verdict)
}

// A record that is made or changed while QuickBooks is read is no gap, and neither is one
// that the sink has newer than what was read.
func TestAudit_BothSidesChangeWhileTheyAreRead(t *testing.T) {
	b := setup(t)
	first := b.create("Invoice")
	b.deliver(first)
	b.advance(time.Hour)
	var calls atomic.Int64
	b.after = func() {
		if calls.Add(1) == 3 { // the counts and the page of invoices
			if err := b.sim.Update(first, nil); err != nil {
				t.Errorf("update: %v", err)
			}
			b.deliver(first, b.create("Invoice"))
		}
	}
	verdicts, _, err := b.audit()
	require.NoError(t, err)
	require.GreaterOrEqual(t, calls.Load(), int64(4))
	require.Equal(t, audit.NoGap, verdicts["Invoice"].Verdict, "%+v", verdicts["Invoice"])
}

func TestAudit_EndsAtTheCallsAllowedAndGoesOnLater(t *testing.T) {
	b := setup(t)
	b.deliver(b.create("Invoice"))
	b.advance(time.Hour)
	b.o.MaxCalls = 3
	verdicts, report, err := b.audit()
	require.ErrorIs(t, err, audit.ErrMaxCalls)
	require.Equal(t, 3, report.Calls)
	require.Contains(t, verdicts, "Invoice")
	require.NotContains(t, verdicts, "TimeActivity")

	b.o.MaxCalls, b.o.SkipYounger = 0, time.Hour
	verdicts, report, err = b.audit()
	require.NoError(t, err)
	require.Equal(t, 1, report.Skipped)
	require.Contains(t, verdicts, "TimeActivity")

	var last audit.Progress
	b.o.SkipYounger = 0
	b.o.Progress = func(p audit.Progress) { last = p }
	_, _, err = b.audit()
	require.NoError(t, err)
	require.Equal(t, 1, last.RealmsDone)
	require.Equal(t, 1, last.Compared)
	require.Equal(t, 1, last.Records)
	require.Equal(t, 4, last.Calls)
}

// A call that fails for a moment is made again, and counts each time.
func TestAudit_OutlivesAServerThatFailsForAMoment(t *testing.T) {
	b := setup(t)
	b.deliver(b.create("Invoice"))
	b.advance(time.Hour)
	b.failing.Store(2)
	verdicts, report, err := b.audit()
	require.NoError(t, err)
	require.Equal(t, audit.NoGap, verdicts["Invoice"].Verdict, "%+v", verdicts["Invoice"])
	require.Equal(t, 6, report.Calls)
}

// A record that fails every Query leaves the verdict open.
func TestAudit_APoisonRecordLeavesTheVerdictOpen(t *testing.T) {
	b := setup(t)
	poison := b.create("Invoice")
	b.deliver(poison)
	b.sim.SetFaults(qbosim.Faults{Poison: []qbosim.Ref{poison}})
	b.advance(time.Hour)
	verdicts, report, err := b.audit()
	require.NoError(t, err)
	require.Equal(t, audit.Incomplete, verdicts["Invoice"].Verdict, "%+v", verdicts["Invoice"])
	require.Zero(t, verdicts["Invoice"].UpTo)
	require.NotEmpty(t, verdicts["Invoice"].Detail)
	require.Zero(t, report.UpTo)
	require.False(t, report.Whole())
}

// A document that differs at the same version shows with Content alone, and costs no
// call more; what somebody changed in the table by hand counts too.
func TestAudit_ComparesDocumentsOnDemand(t *testing.T) {
	b := setup(t)
	same, other := b.create("Invoice"), b.create("Invoice")
	truth := b.sim.Truth(realm)
	for ref, document := range map[qbosim.Ref][]byte{same: truth[same].Raw, other: []byte(`{"Id":"2","Balance":1}`)} {
		require.NoError(t, b.table.Write(t.Context(), []*ledgerfeedv1.Change{{
			RealmId: realm, Entity: ref.Entity, EntityId: ref.ID, Version: truth[ref].Version, SyncToken: truth[ref].SyncToken,
			LastUpdated: timestamppb.New(truth[ref].LastUpdated), LearnedAt: timestamppb.New(truth[ref].LastUpdated),
			Document: document, ContentHash: qbo.ContentHash(truth[ref].Raw),
		}}))
	}
	b.advance(time.Hour)
	verdicts, report, err := b.audit()
	require.NoError(t, err)
	require.Equal(t, audit.NoGap, verdicts["Invoice"].Verdict, "versions alone agree")
	calls := report.Calls
	b.o.Content = true
	verdicts, report, err = b.audit()
	require.NoError(t, err)
	v := verdicts["Invoice"]
	require.Equal(t, audit.Gaps, v.Verdict)
	require.Equal(t, []int{0, 0, 0, 1}, []int{v.Missing, v.Stale, v.Extra, v.Differs}, "%+v", v)
	require.Contains(t, v.Detail, "differs "+other.ID)
	require.Equal(t, calls, report.Calls)
}
