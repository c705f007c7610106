package qbosim_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

// BenchmarkAPI asks a company of 10,000 invoices, each written twice.
func BenchmarkAPI(b *testing.B) {
	clock := newClock()
	sim, err := qbosim.New(qbosim.Options{Seed: 1, Now: clock.Now, Limits: qbosim.Limits{PerMinute: 1 << 30}, AccessTokenTTL: 1000 * time.Hour})
	require.NoError(b, err)
	defer sim.Close()
	sim.AddRealm(realm)
	access, _ := sim.Connect(realm)
	var refs []qbosim.Ref
	for range 10_000 {
		ref, err := sim.Create(realm, "Invoice", nil)
		require.NoError(b, err)
		refs = append(refs, ref)
		clock.Advance(time.Second)
	}
	for _, ref := range refs {
		require.NoError(b, sim.Update(ref, nil))
		clock.Advance(time.Second)
	}
	ago := func(d time.Duration) string { return clock.Now().Add(-d).Format(time.RFC3339) }
	query := func(statement string) string { return "query?query=" + url.QueryEscape(statement) }
	tests := []struct{ name, path string }{
		{"cdc/nothing", "cdc?entities=Invoice,Customer&changedSince=" + ago(-time.Hour)},
		{"cdc/last 100", "cdc?entities=Invoice,Customer&changedSince=" + ago(100*time.Second)},
		{"cdc/truncated", "cdc?entities=Invoice,Customer&changedSince=" + ago(20_000*time.Second)},
		{"query/200 ids", query("SELECT * FROM Invoice WHERE Id IN (" + idList(200) + ") MAXRESULTS 1000")},
		{"query/count", query("SELECT COUNT(*) FROM Invoice")},
		{"query/page 10 of 1000", query("SELECT * FROM Invoice STARTPOSITION 9001 MAXRESULTS 1000")},
		{"query/keyset page of 1000", query("SELECT * FROM Invoice WHERE MetaData.LastUpdatedTime > '" + ago(5000*time.Second) + "' ORDERBY MetaData.LastUpdatedTime ASC MAXRESULTS 1000")},
		{"query/by amount", query("SELECT * FROM Invoice WHERE TotalAmt > '3000' MAXRESULTS 1000")},
	}
	for _, tt := range tests {
		b.Run(tt.name, func(b *testing.B) {
			b.ReportAllocs()
			req := httptest.NewRequest(http.MethodGet, "/v3/company/"+realm+"/"+tt.path, nil)
			req.Header.Set("Authorization", "Bearer "+access.Reveal())
			req.Header.Set("Accept", "application/json")
			for b.Loop() {
				clock.Advance(time.Nanosecond)
				w := httptest.NewRecorder()
				sim.Handler().ServeHTTP(w, req)
				if w.Code != 200 {
					b.Fatal(w.Body)
				}
			}
		})
	}
}

func idList(n int) string {
	list := "'1'"
	for i := 2; i <= n; i++ {
		list += fmt.Sprintf(",'%d'", i*37%10_000+1)
	}
	return list
}

// BenchmarkStep makes changes in a company of 10,000 records.
func BenchmarkStep(b *testing.B) {
	for _, kind := range []string{"memory", "journal"} {
		b.Run(kind, func(b *testing.B) {
			o := qbosim.Options{Seed: 1}
			if kind == "journal" {
				o.Journal = b.TempDir() + "/journal"
			}
			sim, err := qbosim.New(o)
			require.NoError(b, err)
			defer sim.Close()
			sim.AddRealm(realm)
			for range 20_000 {
				_, err := sim.Step(realm)
				require.NoError(b, err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := sim.Step(realm); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
