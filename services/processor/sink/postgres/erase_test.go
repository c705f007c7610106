package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
)

// All rows of one company go, more of them than one transaction deletes, in one table as in
// many; the other company keeps its own.
func TestErase_TakesTheRowsOfOneCompany(t *testing.T) {
	for _, perEntity := range []bool{false, true} {
		t.Run(fmt.Sprint("per entity ", perEntity), func(t *testing.T) {
			url := devtest.Postgres(t)
			s := open(t, postgres.Options{URL: secret.String(url), PerEntity: perEntity})
			realm := of("Invoice", "1", 1).GetRealmId()
			other := of("Invoice", "1", 1)
			other.RealmId = realm + "0"
			write(t, s, of("Invoice", "1", 1), of("Bill", "1", 1), other)
			write(t, s, of("Invoice", "1", 2))
			exec(t, url, `INSERT INTO ledgerfeed.entity (realm, entity, id, version, sync_token, last_updated, deleted, operation, learned, learned_at, merged_into, event_id)
				SELECT '`+realm+`', 'Invoice', 'x' || n, 1, '', now(), false, 'update', 'cdc', now(), '', '' FROM generate_series(1, 6000) AS n`)
			require.NoError(t, s.KeepCompanies(t.Context(), []sink.Company{bakery(realm, time.Now()), bakery(realm+"0", time.Now())}))

			want := map[string]int64{"entity": 6002, "change": 3, "gap": 0, "audit": 0, "company": 1}
			got, err := s.EraseRealm(t.Context(), realm, true)
			require.NoError(t, err)
			require.Equal(t, want, got)
			got, err = s.EraseRealm(t.Context(), realm, false)
			require.NoError(t, err)
			require.Equal(t, want, got)
			got, err = s.EraseRealm(t.Context(), realm, false)
			require.NoError(t, err)
			require.Equal(t, map[string]int64{"entity": 0, "change": 0, "gap": 0, "audit": 0, "company": 0}, got)
			require.Equal(t, 3, query[int](t, url, `SELECT (SELECT count(*) FROM ledgerfeed.entity) + (SELECT count(*) FROM ledgerfeed.change) + (SELECT count(*) FROM ledgerfeed.company)`))
		})
	}
}
