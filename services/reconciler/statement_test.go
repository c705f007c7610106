package reconciler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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
