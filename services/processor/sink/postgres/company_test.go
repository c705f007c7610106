package postgres_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
)

func bakery(realm string, at time.Time) sink.Company {
	return sink.Company{
		Realm: realm, Name: "Larry's Bakery", LegalName: "Larry's Bakery Inc", Country: "US", HomeCurrency: "USD",
		FiscalYearStart: "January", TimeZoneOffset: "-08:00", ReadAt: at,
	}
}

func TestCompany_TheNewestWordStays(t *testing.T) {
	url := devtest.Postgres(t)
	s := open(t, postgres.Options{URL: secret.String(url)})
	noon := time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)
	keep := func(all ...sink.Company) {
		t.Helper()
		require.NoError(t, s.KeepCompanies(t.Context(), all))
	}
	row := func() string {
		return query[string](t, url, `select string_agg(concat_ws('|', realm, name, legal_name, country, home_currency, fiscal_year_start,
			time_zone_offset, extract(epoch from read_at - '2026-11-02T12:00:00Z')::int), ' ' order by realm) from ledgerfeed.company`)
	}
	keep()
	keep(bakery("9", noon))
	const at = "9|Larry's Bakery|Larry's Bakery Inc|US|USD|January|-08:00|"
	require.Equal(t, at+"0", row())
	keep(bakery("9", noon.Add(time.Minute)))
	require.Equal(t, at+"0", row(), "nothing but the time has changed")
	keep(bakery("9", noon.Add(2*time.Hour)))
	require.Equal(t, at+"7200", row())

	renamed, old := bakery("9", noon.Add(2*time.Hour+time.Minute)), bakery("9", noon)
	renamed.Name, old.Name = "Larry's", "Larry"
	keep(renamed)
	keep(old)
	require.Equal(t, strings.Replace(at, "Larry's Bakery|", "Larry's|", 1)+"7260", row())
	keep(sink.Company{Realm: "8", Name: "B", ReadAt: noon}, sink.Company{Realm: "8", Name: "B", ReadAt: noon})
	require.Equal(t, "8", query[string](t, url, `select realm from ledgerfeed.company where legal_name = ''`))
}

// Several processors tell of the same companies, in other orders.
func TestCompany_ManyWritersAtOnce(t *testing.T) {
	url := devtest.Postgres(t)
	var writers sync.WaitGroup
	failed := make(chan error, 4)
	for w := range 4 {
		s := open(t, postgres.Options{URL: secret.String(url)})
		writers.Go(func() {
			for i := range 10 {
				var all []sink.Company
				for n := range 50 {
					c := bakery(fmt.Sprint((n*(w+1))%53), time.Unix(int64(1_790_000_000+i*3601), 0))
					all = append(all, c)
				}
				if err := s.KeepCompanies(t.Context(), all); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	writers.Wait()
	close(failed)
	require.NoError(t, <-failed)
	require.Equal(t, 1_790_000_000+9*3601, query[int](t, url, `select min(extract(epoch from read_at))::int from ledgerfeed.company`))
}

// A sink with a name of its own has a table of its own, and a database of the version
// before gets one beside its rows.
func TestCompany_TableOfItsOwn(t *testing.T) {
	url := devtest.Postgres(t)
	a := open(t, postgres.Options{URL: secret.String(url), PerEntity: true})
	b := open(t, postgres.Options{URL: secret.String(url), Table: "b"})
	require.NoError(t, b.KeepCompanies(t.Context(), []sink.Company{bakery("9", time.Now())}))
	write(t, a, of("Company", "1", 1))
	require.Zero(t, query[int](t, url, `select count(*) from ledgerfeed.company`))
	require.Equal(t, 1, query[int](t, url, `select count(*) from ledgerfeed.b_company`))

	exec(t, url, `drop table ledgerfeed.company`)
	exec(t, url, `alter table ledgerfeed.entity drop column sanitized; alter table ledgerfeed.change drop column sanitized`)
	exec(t, url, `delete from ledgerfeed.entity_migrations where version_id >= 6`)
	again := open(t, postgres.Options{URL: secret.String(url), PerEntity: true})
	require.NoError(t, again.KeepCompanies(t.Context(), []sink.Company{bakery("9", time.Now())}))
	require.Equal(t, "Larry's Bakery", query[string](t, url, `select name from ledgerfeed.company`))
	require.Equal(t, 1, query[int](t, url, `select count(*) from ledgerfeed.entity`))
}
