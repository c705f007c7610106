package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// A company with records of all 42 entities, and with twelve custom fields where an answer
// shows three by itself, is equal in dev (which ends with an error if it is not), in
// PostgreSQL and for the audit.
func TestWhole_ACompanyOfAllEntitiesAndTwelveCustomFields(t *testing.T) {
	t.Parallel()
	r := newRepair(t)
	for _, name := range entity.Queryable() {
		require.Positive(t, r.count("entity = '"+name+"'"), name)
	}
	const alive = "NOT deleted AND entity IN ('Bill', 'Customer', 'Estimate', 'Invoice', 'Purchase', 'SalesReceipt', 'Vendor')"
	require.Greater(t, r.count(alive), 20)
	require.Zero(t, r.count(alive+" AND jsonb_array_length(document->'CustomField') <> 12"))
	require.Positive(t, r.count("entity = 'RecurringTransaction' AND document->'Bill'->>'Id' = id"))
	require.Positive(t, r.count("entity = 'ExchangeRate' AND id LIKE 'EUR-2026-%'"))

	audited := r.audit("--content")
	require.Zero(t, audited.code, "%s", audited.stderr)
	require.Len(t, audited.verdicts, 42)
	for _, name := range entity.Queryable() {
		v := audited.verdicts[name]
		require.Equal(t, "no-gap", v.Verdict, "%s: %s", name, v.Detail)
		require.Equal(t, r.count("NOT deleted AND entity = '"+name+"'"), v.Records, name)
	}
}
