package audit_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/audit"
)

// The verdicts list the scope: all 42 entities, and which the company does not have.
func TestAudit_ListsItsScope(t *testing.T) {
	b := setup(t)
	refs, err := b.sim.Populate(realm)
	require.NoError(t, err)
	for _, ref := range refs {
		if ref.Entity != "Budget" {
			b.deliver(ref)
		}
	}
	b.advance(time.Hour)
	edition := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Query().Get("query"), "FROM Budget") {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"Fault":{"Error":[{"Message":"Invalid query","Detail":"QueryValidationError: Metadata not found for Entity: Budget","code":"4001"}],"type":"ValidationFault"}}`))
			return
		}
		b.sim.Handler().ServeHTTP(w, r)
	}))
	t.Cleanup(edition.Close)
	b.o.QBO, err = qbo.New(qbo.Options{BaseURL: edition.URL, Tokens: b})
	require.NoError(t, err)
	b.o.Entities = nil

	verdicts, report, err := b.audit()
	require.NoError(t, err)
	require.Len(t, verdicts, 42)
	require.Equal(t, audit.Unavailable, verdicts["Budget"].Verdict)
	require.Contains(t, verdicts["Budget"].Detail, "Metadata not found")
	require.Equal(t, audit.NoGap, verdicts["ExchangeRate"].Verdict, verdicts["ExchangeRate"].Detail)
	require.Equal(t, 1, verdicts["RecurringTransaction"].Records)
	require.True(t, report.Whole())
	require.False(t, report.UpTo.IsZero())
	compared, unavailable := report.Scope()
	require.Len(t, compared[realm], 41)
	require.Equal(t, []string{"Budget"}, unavailable[realm])

	// The table keeps the scope too.
	kept, err := b.o.State.Audits(t.Context(), realm)
	require.NoError(t, err)
	require.Len(t, kept, 42)
}
