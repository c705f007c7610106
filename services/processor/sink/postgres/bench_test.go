package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/sinktest"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

func BenchmarkSink_Write(b *testing.B) {
	for _, mode := range []struct {
		name string
		o    postgres.Options
	}{
		{"log=off", postgres.Options{NoLog: true}},
		{"log=on", postgres.Options{}},
		{"log=on,tables=per_entity", postgres.Options{PerEntity: true}},
	} {
		o := mode.o
		o.URL = secret.String(devtest.DurablePostgres(b))
		s := open(b, o)
		var round int64 // over all runs: each version is newer than the one before
		for _, size := range []int{1, 400} {
			b.Run(fmt.Sprintf("%s/batch=%d", mode.name, size), func(b *testing.B) { benchmarkWrite(b, s, size, &round) })
		}
	}
}

// benchmarkWrite updates the same entities of two types over and over.
func benchmarkWrite(b *testing.B, s *postgres.Sink, size int, round *int64) {
	lines := strings.Repeat(`{"DetailType":"SalesItemLineDetail","Amount":12.5,"SalesItemLineDetail":{"ItemRef":{"value":"3"},"Qty":2}},`, 12)
	b.ReportAllocs()
	for b.Loop() {
		*round++
		batch := make([]*ledgerfeedv1.Change, size)
		for i := range batch {
			batch[i] = sinktest.Change(fmt.Sprint(i), *round, fmt.Sprintf(`{"Id":"%d","DocNumber":"%d","Line":[%s{}]}`, i, *round, lines))
			if i%2 == 1 {
				batch[i].Entity = "Bill"
			}
		}
		require.NoError(b, s.Write(b.Context(), batch))
	}
	b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "changes/s")
}
