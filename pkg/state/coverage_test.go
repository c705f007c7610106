package state_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func gap(id string, event time.Time) state.Gap {
	return state.Gap{
		Realm: "9", Ref: invoice(id), Version: event.Unix() * 1_000_000, Found: noon, Event: event.Truncate(time.Second),
		Operation: "update", Source: "cdc", Verdict: state.VerdictLost,
	}
}

func note(t *testing.T, s *state.Store, gaps ...state.Gap) []state.Gap {
	t.Helper()
	fresh, err := s.NoteGaps(t.Context(), "9", gaps)
	require.NoError(t, err)
	return fresh
}

func gapsOf(t *testing.T, s *state.Store, n int) []state.Gap {
	t.Helper()
	gaps, err := s.Gaps(t.Context(), "9", n)
	require.NoError(t, err)
	return gaps
}

func TestStore_GapsAreNotedOnceAndBounded(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		require.Empty(t, note(t, s))
		one, again := gap("a: b\nc", noon.Add(-time.Hour)), gap("a: b\nc", noon.Add(-time.Minute))
		again.Found = noon.Add(time.Second)
		require.Len(t, note(t, s, one), 1)
		require.Empty(t, note(t, s, one), "another scan found it again")
		require.Empty(t, cmp.Diff([]state.Gap{again}, note(t, s, one, again)))
		require.Empty(t, cmp.Diff([]state.Gap{again, one}, gapsOf(t, s, 10)))
		require.Empty(t, cmp.Diff([]state.Gap{again}, gapsOf(t, s, 1)))
		require.Empty(t, gapsOf(t, s, 0))

		for i := range 12 { // of one record the latest eight stay
			note(t, s, gap("x", noon.Add(time.Duration(i)*time.Minute)))
		}
		require.Len(t, gapsOf(t, s, 100), 2+8)

		var many []state.Gap
		for i := range 1100 {
			g := gap(fmt.Sprint(i), noon)
			g.Found = noon.Add(time.Duration(10+i) * time.Second)
			many = append(many, g)
		}
		require.Len(t, note(t, s, many...), 1100)
		held := gapsOf(t, s, 5000)
		require.Len(t, held, state.MaxGaps)
		require.Equal(t, "1099", held[0].ID)
		require.Equal(t, fmt.Sprint(1100-state.MaxGaps), held[state.MaxGaps-1].ID, "the oldest went")
	})
}

func webhook(operation, id string, event time.Time, lag time.Duration, first bool) state.Webhook {
	return state.Webhook{
		Kind: state.Kind{Entity: "Invoice", Operation: operation}, ID: id, Event: event, Received: event.Add(lag), First: first,
	}
}

// A webhook that comes after the scan makes its gap late, and only its own.
func TestSightings_FindTheGapWhoseWebhookIsLate(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		happened := noon.Add(-2 * time.Hour)
		deleted := gap("3", noon) // found by a sweep, long after it went
		deleted.Operation = "delete"
		gaps := []state.Gap{gap("1", happened), gap("2", happened), deleted}
		require.NoError(t, s.CountGaps(t.Context(), "9", note(t, s, gaps...), map[state.Kind]bool{{Entity: "Invoice", Operation: "update"}: true}))

		var late []state.Gap
		x := s.Sightings(func(_ context.Context, found []state.Gap) { late = append(late, found...) })
		x.Note("9", webhook("update", "2", happened.Add(-time.Hour), time.Second, false), // of an earlier change, resent
			webhook("void", "1", happened.Add(400*time.Millisecond), 3*time.Hour, true),
			webhook("delete", "3", noon.Add(-30*24*time.Hour), time.Hour, false))
		x.Note("8", webhook("update", "2", happened, time.Second, true)) // of another realm
		require.NoError(t, x.Flush(t.Context()))

		byID := map[string]state.Gap{}
		for _, g := range gapsOf(t, s, 10) {
			byID[g.ID] = g
		}
		gaps[0].Verdict, gaps[0].Late = state.VerdictLate, happened.Add(3*time.Hour+400*time.Millisecond)
		gaps[2].Verdict, gaps[2].Late = state.VerdictLate, noon.Add(-30*24*time.Hour+time.Hour)
		require.Empty(t, cmp.Diff(map[string]state.Gap{"1": gaps[0], "2": gaps[1], "3": gaps[2]}, byID))
		require.ElementsMatch(t, []state.Gap{gaps[0], gaps[2]}, late)
		require.Empty(t, note(t, s, gap("1", happened)), "the scan is repeated: it stays late")

		x.Note("9", webhook("void", "1", happened.Add(400*time.Millisecond), 4*time.Hour, false)) // resent
		require.NoError(t, x.Flush(t.Context()))
		require.Len(t, late, 2)

		weeks, err := s.WeeklyCoverage(t.Context(), "9", 1)
		require.NoError(t, err)
		days, err := s.DailyCoverage(t.Context(), 1)
		require.NoError(t, err)
		for name, c := range map[string]state.Coverage{"realm": weeks[0], "all": days[0]} {
			update, void := c[state.Kind{Entity: "Invoice", Operation: "update"}], c[state.Kind{Entity: "Invoice", Operation: "void"}]
			require.EqualValues(t, 2, update.Gaps, name)
			require.EqualValues(t, 1, update.Late, name)
			require.Zero(t, void.Told, "%s: a scan told first", name)
			require.EqualValues(t, 1, void.Lags.Count(), name)
			require.Equal(t, 6*time.Hour, void.Lags.Quantile(0.5), name)
			require.EqualValues(t, 1, c[state.Kind{Entity: "Invoice", Operation: "delete"}].Late, name)
		}
		require.Equal(t, map[string]int64{"lost": 3}, days[0].Verdicts())
		require.EqualValues(t, 1, days[0][state.Kind{Entity: "Invoice", Operation: "update"}].Scans)
	})
}

func TestStore_CoverageIsCountedByDayAndWeek(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		now := noon
		state.SetNow(s, func() time.Time { return now })
		x := s.Sightings(nil)
		tell := func(n int, delivered bool) {
			for i := range n {
				w := webhook("create", fmt.Sprint(i), now, 20*time.Second, true)
				if delivered {
					w.Delivered = w.Received.Add(time.Second)
				}
				x.Note("9", w)
			}
			require.NoError(t, x.Flush(t.Context()))
		}
		create := state.Kind{Entity: "Invoice", Operation: "create"}
		tell(3, true)
		lost := gap("77", noon)
		lost.Operation = "create"
		unasked := gap("78", noon)
		unasked.Operation, unasked.Verdict = "create", state.VerdictBeforeConnection
		require.NoError(t, s.CountGaps(t.Context(), "9", note(t, s, lost, unasked), nil))
		now = now.Add(8 * 24 * time.Hour)
		tell(2, false)

		days, err := s.DailyCoverage(t.Context(), 9)
		require.NoError(t, err)
		require.Len(t, days, 9)
		require.EqualValues(t, 2, days[0][create].Told)
		require.Empty(t, days[1])
		require.EqualValues(t, 3, days[8][create].Told)
		require.EqualValues(t, 1, days[8][create].Gaps, "what no webhook was due for does not count")
		require.InDelta(t, 0.75, days[8][create].Coverage(), 1e-9)
		require.Equal(t, 20*time.Second, days[8][create].MeanLag())
		require.Equal(t, 21*time.Second, days[8][create].MeanDelivery())
		require.Equal(t, map[string]int64{"lost": 1, "before-connection": 1}, days[8].Verdicts())

		weeks, err := s.WeeklyCoverage(t.Context(), "9", 3)
		require.NoError(t, err)
		all := state.Coverage{}
		for _, w := range weeks {
			all.Merge(w)
		}
		require.EqualValues(t, 5, all[create].Told)
		require.EqualValues(t, 1, all.Total().Gaps)
		require.Equal(t, []state.Kind{create}, all.Kinds())

		heard, err := s.Heard(t.Context())
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(map[state.Kind]time.Time{create: now}, heard))
		told, err := s.LastTold(t.Context(), []string{"9", "8"})
		require.NoError(t, err)
		require.Empty(t, cmp.Diff([]time.Time{now.Add(20 * time.Second), {}}, told))
		gapped, err := s.GapRealms(t.Context(), noon.Add(-time.Second), 10)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff([]state.RealmTime{{Realm: "9", At: noon}}, gapped))
		gapped, err = s.GapRealms(t.Context(), noon.Add(time.Second), 10)
		require.NoError(t, err)
		require.Empty(t, gapped)
	})
}

func TestSightings_FreshnessKeepsTheLatest(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		x := s.Sightings(nil)
		tell := func(entity, operation string, at time.Time) {
			x.Note("9", state.Webhook{Kind: state.Kind{Entity: entity, Operation: operation}, ID: "1", Event: at, Received: at})
		}
		tell("Invoice", "create", noon)
		require.NoError(t, x.Flush(t.Context()))
		tell("Invoice", "create", noon.Add(-time.Second))
		tell("Invoice", "update", noon)
		tell("Invoice", "update", noon.Add(time.Millisecond))
		tell("A b:c", "x:y", noon)
		require.NoError(t, x.Flush(t.Context()))
		require.NoError(t, x.Flush(t.Context()))
		got, err := s.Freshness(t.Context(), "9")
		require.NoError(t, err)
		require.Empty(t, cmp.Diff([]state.Sighting{
			{Entity: "A b:c", Operation: "x:y", At: noon}, {Entity: "Invoice", Operation: "create", At: noon},
			{Entity: "Invoice", Operation: "update", At: noon.Add(time.Millisecond)},
		}, got))
	})
}
