package postgres_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/sinktest"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Each reads 10,000 rows at a time: none is left out or shown twice where a part ends.
func TestSink_ShowsEachRowOnce(t *testing.T) {
	for name, n := range map[string]int{"none": 0, "one part": 10_000, "more": 20_001} {
		t.Run(name, func(t *testing.T) {
			s := open(t, postgres.Options{URL: secret.String(devtest.Postgres(t)), NoLog: true})
			one := sinktest.Tombstone("0", 4)
			var changes []*ledgerfeedv1.Change
			for i := range n {
				changes = append(changes, sinktest.Tombstone(strconv.Itoa(i), 4))
			}
			for len(changes) > 0 {
				part := min(len(changes), 5000)
				write(t, s, changes[:part]...)
				changes = changes[part:]
			}
			write(t, s, of("Bill", "1", 1))
			seen := map[string]int{}
			require.NoError(t, s.Each(t.Context(), one.GetRealmId(), one.GetEntity(), func(id string, row sink.Row) error {
				seen[id]++
				require.True(t, row.Deleted)
				require.Equal(t, one.GetVersion(), row.Version)
				return nil
			}))
			require.Len(t, seen, n)
			for id, times := range seen {
				require.Equal(t, 1, times, id)
			}
		})
	}
}
