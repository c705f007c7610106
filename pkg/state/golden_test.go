package state_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// What is stored today must be readable by the version of tomorrow.
func TestStore_Layout(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, err := state.Open(ctx, state.Options{Config: at(devtest.RealRedis(t)), Now: func() time.Time { return noon }})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	fill(t, s)
	var out strings.Builder
	all := keys(t, s)
	slices.Sort(all)
	for _, k := range all {
		if strings.HasPrefix(k, "lf:tmp:") {
			continue // gone after a restart
		}
		kind := s.Redis().Type(ctx, k).Val()
		fmt.Fprintf(&out, "%s %s\n", kind, k)
		var lines []string
		switch kind {
		case "hash":
			for f, v := range s.Redis().HGetAll(ctx, k).Val() {
				lines = append(lines, f+" "+v)
			}
		case "zset":
			for _, z := range s.Redis().ZRangeWithScores(ctx, k, 0, -1).Val() {
				lines = append(lines, fmt.Sprintf("%s %.0f", z.Member, z.Score))
			}
		case "set":
			lines = s.Redis().SMembers(ctx, k).Val()
		case "list":
			lines = s.Redis().LRange(ctx, k, 0, -1).Val()
		}
		slices.Sort(lines)
		for _, l := range lines {
			fmt.Fprintf(&out, "  %s\n", l)
		}
	}
	const file = "testdata/layout.golden"
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(file, []byte(out.String()), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(string(want), out.String()))
}

// fill stores one of everything.
func fill(t *testing.T, s *state.Store) {
	t.Helper()
	ctx := t.Context()
	const realm = "9341453"
	_, err := s.RegisterSinks(ctx, []string{"pg", "jsonl"})
	require.NoError(t, err)
	require.NoError(t, s.AddSanitized(ctx, "pg", 2))
	require.NoError(t, s.SetCompany(ctx, state.Company{
		Realm: realm, Name: "Larry's Bakery", LegalName: "Larry's Bakery Inc", Country: "US", HomeCurrency: "USD", FiscalYearStart: "January",
		TimeZoneOffset: "-08:00", ReadAt: noon,
	}))
	require.NoError(t, s.SetCompanyAsked(ctx, realm, noon.Add(-time.Hour)))
	require.NoError(t, s.NoteMerges(ctx, realm, map[state.Ref]string{{Entity: "Customer", ID: "7"}: "3"}))
	require.NoError(t, s.Advance(ctx, realm, "pg", []state.Advance{
		{Ref: invoice("1"), Version: 1795435200000005, Covered: noon},
		{Ref: invoice("2"), Version: 1795435200999999},
		{Ref: state.Ref{Entity: "Customer", ID: "1"}, Covered: noon},
		{Ref: state.Ref{Entity: "Customer", ID: "2"}, Version: 1795435200000005, Covered: noon, Hash: "gLDr_8z2yEQ"},
	}))
	require.NoError(t, s.NoteFollowUps(ctx, realm, []state.FollowUp{{Ref: invoice("2"), Kind: state.FollowUpTombstone, Since: noon, First: noon.Add(time.Second)}}))
	_, err = s.NoteAbsences(ctx, realm, []state.Absence{{Ref: invoice("5"), Version: 1795435200000001, First: noon}})
	require.NoError(t, err)
	held, err := s.HeldDeletion(ctx, realm, "Invoice")
	require.NoError(t, err)
	held.State, held.Count, held.Of, held.Sample, held.Since, held.At = state.DeletionHeld, 30, 100, []string{"5"}, noon, noon
	require.NoError(t, s.HoldDeletion(ctx, held))
	require.NoError(t, s.SetSwept(ctx, realm, "Invoice", state.Sweep{Began: noon, At: noon.Add(-time.Hour)}))
	require.NoError(t, s.SetCounted(ctx, realm, map[string]time.Time{"Invoice": noon}))
	require.NoError(t, s.AdvanceCursors(ctx, realm, map[string]time.Time{"Invoice": noon, "Customer": noon.Add(time.Hour)}))
	require.NoError(t, s.Redis().Set(ctx, state.Key("gen", realm), "X5Q2KPHS", 0).Err()) // what a rewind leaves
	require.NoError(t, s.SaveScan(ctx, realm, state.Scan{
		ID: "scan1", StartedAt: noon, Time: noon.Add(time.Second),
		Cursors: map[string]time.Time{"Invoice": noon.Add(-time.Minute)},
		From:    map[string]time.Time{"Invoice": noon.Add(-time.Hour)}, Generation: "X5Q2KPHS",
		Missing: []state.Missing{{Ref: invoice("3"), Version: 1795435200000001}},
	}))
	require.NoError(t, s.MarkDead(ctx, realm, 24*time.Hour, state.DeadRecord{Ref: invoice("4"), Sink: "pg", Version: 1795435200000002, Letter: 17}))
	require.NoError(t, s.NoteBehind(ctx, realm, "pg", map[string]time.Time{"Invoice": noon.Add(-time.Hour)}))
	_, err = s.FirstUnconnected(ctx, "app", "4711")
	require.NoError(t, err)
	_, err = s.NoteForeign(ctx, state.Foreign{Realm: realm, App: "sandbox", Connected: "app", Events: 2})
	require.NoError(t, err)
	lost := state.Gap{
		Realm: realm, Ref: invoice("3"), Version: 1795435200000001, Found: noon, Event: noon.Add(-time.Hour),
		Operation: "update", Source: "cdc", Verdict: state.VerdictLost,
	}
	fresh, err := s.NoteGaps(ctx, realm, []state.Gap{lost})
	require.NoError(t, err)
	require.NoError(t, s.CountGaps(ctx, realm, fresh, map[state.Kind]bool{{Entity: "Invoice", Operation: "update"}: true}))
	require.NoError(t, s.SaveAudit(ctx, state.Audit{
		Realm: realm, Entity: "Invoice", Sink: "pg", Run: "r1", At: noon, Verdict: "gaps", UpTo: noon.Add(-time.Minute), Records: 3, Missing: 1, Calls: 2,
	}))
	sightings := s.Sightings(nil)
	sightings.Note(realm, state.Webhook{
		Kind: state.Kind{Entity: "Invoice", Operation: "update"}, ID: "1", Event: noon, Received: noon.Add(3 * time.Second), First: true,
		Delivered: noon.Add(4 * time.Second),
	})
	require.NoError(t, sightings.Flush(ctx))
	require.NoError(t, s.SetPace(ctx, realm, state.Pace{Scanned: noon, Full: noon.Add(-time.Hour), Changed: noon.Add(-time.Minute), PerDay: 250}))
	require.NoError(t, s.KeepRecordRefusals(ctx, realm, []state.RecordRefusal{{Ref: state.Ref{Entity: "Bill", ID: "9"}, Meaning: "request refused", First: noon, Last: noon.Add(time.Minute), Times: 2}}))
	require.NoError(t, s.Refused(ctx, realm, state.Refusal{Entity: "Spaceship", Way: "cdc", At: noon, First: noon, Tries: 1, Text: "4001", Lasting: true}))
	require.NoError(t, s.SetLoaded(ctx, realm, "Invoice", noon))
	require.NoError(t, s.SetEntityUse(ctx, realm, map[string]state.EntityUse{"TaxRate": {Used: true}, "TimeActivity": {Counted: noon}}))
	require.NoError(t, s.NoteFieldsProbed(ctx, realm, noon))
	require.NoError(t, s.NoteEnhancedFields(ctx, realm))
	_, err = s.NoteWatch(ctx, noon, true, 30*time.Second)
	require.NoError(t, err)
	require.NoError(t, s.AddOutage(ctx, state.Outage{Kind: state.OutageBroker, From: noon, To: noon.Add(time.Minute), Detail: "100 to 7"}))
	require.NoError(t, s.Settle(ctx, noon))
	require.NoError(t, s.NoteCoverage(ctx, "Invoice", noon))
	require.NoError(t, s.SetPosition(ctx, state.Position{Created: "2026-11-23T12:00:00Z", Last: 100, Safe: noon}))
	_, _, err = s.Ask(ctx, state.Job{Realm: realm, Entities: []string{"Invoice"}, Load: true, By: "somebody"})
	require.NoError(t, err)
	require.NoError(t, s.SetRegistration(ctx, state.Registration{Config: "5feceb66", Filters: map[string]string{"pg": "entity=Invoice"}}))
	require.NoError(t, s.SetSinkPosition(ctx, "pg", state.SinkPosition{ID: "c4ca4238", Server: "1795435200.5", N: 7, Again: noon}))
	require.NoError(t, s.NoteRewind(ctx, "pg", state.Rewind{Realm: realm, Entity: "Invoice"}, noon))
	require.NoError(t, s.Schedule(ctx, realm, noon))
	claimed, err := s.ClaimDue(ctx, allShards(), 0, time.Hour, 1)
	require.NoError(t, err)
	require.Equal(t, []string{realm}, claimed)
	require.NoError(t, s.Schedule(ctx, realm, noon.Add(time.Minute)))
}

// Redis lost everything, its scripts too: each call works as on the first day.
func TestStore_WorksFromEmptyAfterRedisLostItsData(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		limiter := s.Limiter(state.LimitConfig{})
		for range 2 {
			fill(t, s)
			lease, err := s.Lease(t.Context(), "9", time.Minute)
			require.NoError(t, err)
			release, err := limiter.Acquire(t.Context(), "9", 0)
			require.NoError(t, err)
			require.NoError(t, limiter.Penalize(t.Context(), "9", time.Minute))
			require.NoError(t, s.Redis().FlushAll(t.Context()).Err())
			require.NoError(t, s.Redis().ScriptFlush(t.Context()).Err())
			release()
			require.ErrorIs(t, lease.Renew(t.Context()), state.ErrLost)
			require.NoError(t, lease.Release(t.Context()))
			require.NoError(t, s.Done(t.Context(), "9", state.Never))
		}
		require.Empty(t, keys(t, s))
	})
}
