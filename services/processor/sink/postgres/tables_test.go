package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/sinktest"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

func of(entity, id string, second int64) *ledgerfeedv1.Change {
	c := sinktest.Change(id, second, `{}`)
	c.Entity = entity
	return c
}

func TestTables_EachEntityTypeHasItsOwn(t *testing.T) {
	url := devtest.Postgres(t)
	s := open(t, postgres.Options{URL: secret.String(url), PerEntity: true})
	write(t, s, of("Invoice", "1", 1), of("CreditMemo", "1", 1), of("Class", "1", 1), of("Change", "1", 1), of("invoice", "1", 1))
	write(t, s, of("Invoice", "2", 1))
	for table, want := range map[string]int{"invoice": 2, "credit_memo": 1, "class": 1, "entity_other": 0, "entity": 6, "change": 6} {
		require.Equal(t, want, query[int](t, url, `select count(*) from ledgerfeed.`+table), table)
	}
	for entity, want := range map[string]string{"Change": `^ledgerfeed\.change__[0-9a-f]{8}$`, "invoice": `^ledgerfeed\.invoice__[0-9a-f]{8}$`} {
		require.Regexp(t, want, query[string](t, url, `select tableoid::regclass::text from ledgerfeed.entity where entity = $1`, entity))
	}

	b := open(t, postgres.Options{URL: secret.String(url), PerEntity: true, Table: "b"})
	write(t, b, of("Invoice", "1", 1))
	require.Equal(t, 1, query[int](t, url, `select count(*) from ledgerfeed.b_invoice`))
	require.Equal(t, 1, query[int](t, url, `select count(*) from ledgerfeed.b_change_after(0)`))
}

// Replicas that meet new types at the same time, and one that knows of no tables.
func TestTables_AreMadeOnceByManyAtATime(t *testing.T) {
	url := devtest.Postgres(t)
	var g errgroup.Group
	for w := range 6 {
		g.Go(func() error {
			s, err := postgres.Open(t.Context(), postgres.Options{URL: secret.String(url), PerEntity: w > 0})
			if err != nil {
				return err
			}
			defer s.Close()
			for n := range 12 {
				batch := []*ledgerfeedv1.Change{of(fmt.Sprint("Type", 'A'+n), "1", int64(w)), of(fmt.Sprint("Type", 'A'+(n+w)%12), fmt.Sprint("w", w), 1)}
				if err := s.Write(t.Context(), batch); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	require.Equal(t, 12+6*12, query[int](t, url, `select count(*) from ledgerfeed.entity`))
	require.Zero(t, query[int](t, url, `select count(*) from ledgerfeed.entity_other`))
	require.Equal(t, 13, query[int](t, url, `select count(*) from pg_inherits where inhparent = 'ledgerfeed.entity'::regclass`))
	requireSoundLog(t, postgres.Options{URL: secret.String(url)})
}

// Turned on, the rows move; turned off again, the tables stay.
func TestTables_TurnedOnAndOff(t *testing.T) {
	url := devtest.Postgres(t)
	one, each := postgres.Options{URL: secret.String(url)}, postgres.Options{URL: secret.String(url), PerEntity: true}
	s := open(t, one)
	write(t, s, of("Invoice", "1", 1), of("Bill", "1", 1))
	split := open(t, each)
	require.Equal(t, 1, query[int](t, url, `select count(*) from ledgerfeed.invoice`))
	require.Zero(t, query[int](t, url, `select count(*) from ledgerfeed.entity_other`))
	write(t, s, of("Invoice", "1", 2), of("Item", "1", 1)) // knows nothing of it
	require.Equal(t, 1, query[int](t, url, `select count(*) from ledgerfeed.entity_other`))
	write(t, split, of("Item", "1", 1), of("Item", "2", 1))
	require.Equal(t, 2, query[int](t, url, `select count(*) from ledgerfeed.item`))
	require.Zero(t, query[int](t, url, `select count(*) from ledgerfeed.entity_other`))

	write(t, open(t, one), of("Invoice", "1", 1), of("Invoice", "2", 1))
	require.Equal(t, 2, query[int](t, url, `select count(*) from ledgerfeed.invoice`))
	require.Equal(t, 5, query[int](t, url, `select count(*) from ledgerfeed.entity`))
	requireSoundLog(t, one)
}

// A table of somebody else under the name is theirs: nothing is lost, and what
// to do is in the error.
func TestTables_TheirsIsLeftAlone(t *testing.T) {
	url := devtest.Postgres(t)
	s := open(t, postgres.Options{URL: secret.String(url), PerEntity: true})
	exec(t, url, `create table ledgerfeed.invoice (theirs text)`)
	err := s.Write(t.Context(), []*ledgerfeedv1.Change{of("Invoice", "1", 1)})
	require.ErrorContains(t, err, `relation "invoice" already exists`)
	exec(t, url, `alter table ledgerfeed.invoice rename to theirs`)
	write(t, s, of("Invoice", "1", 1))
}

func TestTables_NamesOfEveryLengthFit(t *testing.T) {
	url := devtest.Postgres(t)
	table := strings.Repeat("t", 48)
	s := open(t, postgres.Options{URL: secret.String(url), Schema: strings.Repeat("s", 48), Table: table, PerEntity: true})
	for n := 1; n < 70; n += 4 {
		write(t, s, of("A"+strings.Repeat("b", n), "1", 1), of("A"+strings.Repeat("B", n), "1", 1))
	}
	require.Equal(t, 36, query[int](t, url, `select count(*) from `+strings.Repeat("s", 48)+"."+table))
	require.Equal(t, 36, query[int](t, url, `select count(*) from `+strings.Repeat("s", 48)+"."+table+"_change_after(0)"))
}
