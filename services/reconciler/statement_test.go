package reconciler

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

func TestStatement_ReadsAsIntuitDocumentsIt(t *testing.T) {
	from := time.Date(2026, 11, 2, 9, 0, 0, 0, time.FixedZone("", -8*3600))
	for _, c := range []struct {
		name string
		q    statement
		want string
	}{
		{"everything", statement{entity: "Invoice", rows: 1000},
			"SELECT * FROM Invoice ORDERBY MetaData.LastUpdatedTime ASC STARTPOSITION 1 MAXRESULTS 1000"},
		{"inactive ones too", statement{entity: "Customer", list: true, from: from, to: from.Add(time.Second), start: 1000, rows: 500},
			"SELECT * FROM Customer WHERE Active IN (true, false) AND MetaData.LastUpdatedTime >= '2026-11-02T17:00:00Z'" +
				" AND MetaData.LastUpdatedTime < '2026-11-02T17:00:01Z' ORDERBY MetaData.LastUpdatedTime ASC STARTPOSITION 1000 MAXRESULTS 500"},
		{"without a filter", statement{entity: "Preferences", plain: true, rows: 2}, "SELECT * FROM Preferences STARTPOSITION 1 MAXRESULTS 2"},
		{"by id", statement{entity: "Bill", ids: []string{"7", "o'8"}, rows: 2},
			`SELECT * FROM Bill WHERE Id IN ('7', 'o\'8') ORDERBY MetaData.LastUpdatedTime ASC STARTPOSITION 1 MAXRESULTS 2`},
	} {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, c.q.String()) })
	}
	require.Equal(t, "SELECT COUNT(*) FROM Bill WHERE MetaData.LastUpdatedTime < '2026-11-02T17:00:00Z'",
		statement{entity: "Bill", to: from}.count())
}

// What cannot be filtered, by Active neither, is read and counted without conditions.
func TestReading_WithoutAFilter(t *testing.T) {
	read := 0
	r := Reading{
		Entity: "CustomerType", Now: time.Now,
		Query: func(_ context.Context, statement string) (qbo.QueryResult, error) {
			if strings.Contains(statement, "WHERE") || strings.Contains(statement, "ORDERBY") {
				return qbo.QueryResult{}, qbo.DecodeFault(400, nil, []byte(`{"Fault":{"Error":[{"Message":"Invalid query","Detail":"QueryValidationError: property 'Active' is not queryable","code":"4001"}]}}`))
			}
			return qbo.QueryResult{TotalCount: 1, Entities: []qbo.Entity{{Name: "CustomerType", ID: "7"}}}, nil
		},
		Page: func(items []qbo.Entity) error { read += len(items); return nil },
	}
	require.NoError(t, r.Run(t.Context()))
	require.Equal(t, 1, read)
	n, err := r.Count(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
}
