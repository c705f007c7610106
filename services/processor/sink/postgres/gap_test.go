package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/sinktest"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

func TestGaps_AreKeptOnceWhateverTheOrder(t *testing.T) {
	url := devtest.Postgres(t)
	s := open(t, postgres.Options{URL: secret.String(url)})
	found := time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
	lost := sink.Gap{
		Realm: "9", Entity: "Invoice", ID: "1", Version: 7, Found: found, Event: found.Add(-time.Hour), Operation: "update", Source: "cdc", Verdict: "lost",
	}
	late := lost
	late.Verdict, late.Late = "late", found.Add(time.Minute)
	other, timeless := lost, lost
	other.Version, timeless.ID, timeless.Event = 8, "2", time.Time{}
	keep := func(gaps ...sink.Gap) { require.NoError(t, s.KeepGaps(t.Context(), gaps)) }
	verdicts := func() string {
		return query[string](t, url, `select string_agg(concat_ws(' ', id, version, verdict, extract(epoch from late_at - found_at)::int), ', ' order by id, version) from ledgerfeed.gap`)
	}
	keep()
	keep(lost, lost)
	keep(lost)
	require.Equal(t, "1 7 lost", verdicts())
	keep(late)
	keep(lost)
	keep(other, timeless)
	require.Equal(t, "1 7 late 60, 1 8 lost, 2 7 lost", verdicts())
	require.Equal(t, 1, query[int](t, url, `select count(*) from ledgerfeed.gap where event_at is null`))

	exec(t, url, `delete from ledgerfeed.gap`)
	keep(late) // before the scan's own word
	keep(lost)
	require.Equal(t, "1 7 late 60", verdicts())
}

func TestGaps_OldOnesGo(t *testing.T) {
	url := devtest.Postgres(t)
	s := open(t, postgres.Options{URL: secret.String(url)})
	gap := func(id string, age time.Duration) sink.Gap {
		return sink.Gap{Realm: "9", Entity: "Invoice", ID: id, Version: 7, Found: time.Now().Add(-age)}
	}
	require.NoError(t, s.KeepGaps(t.Context(), []sink.Gap{gap("1", 3*time.Hour), gap("2", time.Minute)}))
	open(t, postgres.Options{URL: secret.String(url), KeepGaps: 2 * time.Hour})
	require.Eventually(t, func() bool {
		return query[string](t, url, `select string_agg(id, ' ') from ledgerfeed.gap`) == "2"
	}, 20*time.Second, 10*time.Millisecond)
}

// A sink of another name in the same schema has tables of its own, and no entity's table
// takes their names.
func TestGaps_EachSinkHasItsOwn(t *testing.T) {
	url := devtest.Postgres(t)
	a := open(t, postgres.Options{URL: secret.String(url), PerEntity: true})
	b := open(t, postgres.Options{URL: secret.String(url), Table: "b"})
	require.NoError(t, b.KeepGaps(t.Context(), []sink.Gap{{Realm: "9", Entity: "Invoice", ID: "1", Version: 7, Found: time.Now()}}))
	write(t, a, of("Gap", "1", 1), of("Audit", "1", 1))
	require.Zero(t, query[int](t, url, `select count(*) from ledgerfeed.gap`))
	require.Equal(t, 1, query[int](t, url, `select count(*) from ledgerfeed.b_gap`))
	require.Equal(t, 2, query[int](t, url, `select count(*) from ledgerfeed.entity`))
}

func TestSink_TellsAnAuditWhatItHolds(t *testing.T) {
	url := devtest.Postgres(t)
	s := open(t, postgres.Options{URL: secret.String(url)})
	gone := sinktest.Tombstone("3", 4)
	write(t, s, sinktest.Change("1", 1, `{}`), sinktest.Change("2", 2, `{}`), gone, of("Bill", "1", 1))
	realm := gone.GetRealmId()
	n, err := s.Alive(t.Context(), realm, gone.GetEntity())
	require.NoError(t, err)
	require.Equal(t, 2, n)
	for _, ids := range [][]string{nil, {"3", "4"}} {
		held, err := s.Versions(t.Context(), realm, gone.GetEntity(), ids)
		require.NoError(t, err)
		require.Equal(t, gone.GetVersion(), held["3"].Version)
		require.True(t, held["3"].Deleted)
		if ids == nil {
			require.Len(t, held, 3)
		} else {
			require.Len(t, held, 1)
		}
	}
	verdict := postgres.Audit{Run: "r", Realm: realm, Entity: "Invoice", At: time.Now(), Verdict: "gaps", Records: 3, Missing: 1}
	require.NoError(t, s.KeepAudit(t.Context(), verdict))
	verdict.Repaired = 1
	require.NoError(t, s.KeepAudit(t.Context(), verdict))
	require.Equal(t, 1, query[int](t, url, `select sum(repaired) from ledgerfeed.audit where up_to is null`))
}

// Realm by realm, tombstones included, and only of the entities asked for.
func TestSink_TellsWhatItHoldsOfSomeEntities(t *testing.T) {
	for _, perEntity := range []bool{false, true} {
		t.Run(fmt.Sprintf("per_entity=%t", perEntity), func(t *testing.T) {
			s := open(t, postgres.Options{URL: secret.String(devtest.Postgres(t)), PerEntity: perEntity})
			held := func() (all []string) {
				for v, err := range s.Held(t.Context(), []string{"TimeActivity", "TaxAgency"}) {
					require.NoError(t, err)
					all = append(all, v.Key(v.Version))
				}
				return all
			}
			require.Empty(t, held())
			gone := sinktest.Tombstone("3", 4)
			gone.Entity = "TimeActivity"
			elsewhere, nothing := of("TaxAgency", "1", 2), of("Invoice", "1", 2)
			elsewhere.RealmId, nothing.RealmId = "8", "7"
			wanted := []*ledgerfeedv1.Change{of("TimeActivity", "1", 1), gone, elsewhere}
			write(t, s, append(wanted, of("Invoice", "1", 1), nothing)...)
			require.ElementsMatch(t, keys(wanted...), held())

			var mixed []*ledgerfeedv1.Change
			for i := range 2000 {
				c := of("TaxAgency", fmt.Sprint(100+i), 1)
				c.RealmId = fmt.Sprint(i % 20)
				mixed = append(mixed, c)
			}
			write(t, s, mixed...)
			var realms []string
			for v, err := range s.Held(t.Context(), allEntities()) {
				require.NoError(t, err)
				if len(realms) == 0 || realms[len(realms)-1] != v.Realm {
					realms = append(realms, v.Realm)
				}
			}
			sorted := slices.Compact(slices.Sorted(slices.Values(realms)))
			require.Equal(t, sorted, realms, "one realm after the other")
			for range s.Held(t.Context(), []string{"TimeActivity"}) {
				break // and the connection is free again
			}
			for _, err := range s.Held(done(t), []string{"TimeActivity"}) {
				require.ErrorIs(t, err, context.Canceled)
			}
		})
	}
}

func allEntities() (names []string) {
	for _, info := range entity.All() {
		names = append(names, info.Name)
	}
	return names
}

func done(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
