package audit_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/audit"
)

const (
	notEntitled = `{"Fault":{"Error":[{"Message":"Permission Denied Error","Detail":"your product is not entitled","code":"5020"}],"type":"ValidationFault"}}`
	noAccess    = `{"fault":{"error":[{"message":"message=ApplicationAuthorizationFailed; errorCode=003100; statusCode=403","code":"3100"}],"type":"SERVICE"}}`
)

// An entity that the company's QuickBooks is without has a verdict of its own, with
// Intuit's text, and is no gap.
func TestAudit_ARefusedEntityIsInItsScope(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		body   string
		kept   bool // scans have concluded it
		want   string
	}{
		{"the response says so", http.StatusBadRequest, notEntitled, false, audit.Unavailable},
		{"it may be the company", http.StatusForbidden, noAccess, false, audit.Incomplete},
		{"scans have found out", http.StatusForbidden, noAccess, true, audit.Unavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := setup(t)
			b.deliver(b.create("Invoice"))
			b.advance(time.Hour)
			b.o.Entities = nil
			b.refuse = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Query().Get("query"), "FROM Budget") {
					return false
				}
				w.WriteHeader(tc.status)
				_, _ = w.Write([]byte(tc.body))
				return true
			}
			if tc.kept {
				require.NoError(t, b.o.State.Refused(t.Context(), realm, state.Refusal{Entity: "Budget", Way: "query", At: b.clock(), Lasting: true}))
			}
			verdicts, report, err := b.audit()
			require.NoError(t, err)
			require.Equal(t, tc.want, verdicts["Budget"].Verdict, "%+v", verdicts["Budget"])
			require.NotEmpty(t, verdicts["Budget"].Detail)
			require.Equal(t, audit.NoGap, verdicts["Invoice"].Verdict)
			require.Equal(t, tc.want == audit.Unavailable, report.Whole())
			require.Equal(t, tc.want == audit.Unavailable, !report.UpTo.IsZero())
			require.Zero(t, report.Gaps())
		})
	}
}
