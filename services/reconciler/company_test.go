package reconciler_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func (b *bundle) company() state.Company {
	b.t.Helper()
	known, err := b.store.Companies(b.t.Context(), []string{b.realm})
	require.NoError(b.t, err)
	return known[0]
}

// The name of a company costs one call a week at most.
func TestCompany_IsReadOnceAWeek(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.config.RefreshCompany = 7 * 24 * time.Hour
	r := b.reconciler()
	b.reconcile(r)
	require.Empty(t, b.company().Name, "a first scan and a recovery leave it to the next one")
	b.clock.Advance(24 * time.Hour)
	b.reconcile(r)
	c := b.company()
	require.Equal(t, "Simulated company "+b.realm, c.Name)
	require.Equal(t, "Simulated company "+b.realm+" Inc", c.LegalName)
	require.Equal(t, "US January -08:00", c.Country+" "+c.FiscalYearStart+" "+c.TimeZoneOffset)
	require.Equal(t, b.clock.Now().UTC(), c.ReadAt)

	reads := func() int { return b.sim.Stats().CallsByKind["read"] }
	first := reads()
	for range 6 {
		b.clock.Advance(24 * time.Hour)
		b.reconcile(r)
	}
	require.Equal(t, first, reads())
	require.NoError(t, b.store.SetCompany(t.Context(), state.Company{Realm: b.realm, HomeCurrency: "USD", ReadAt: b.clock.Now()}))
	for range 8 {
		b.clock.Advance(24 * time.Hour)
		b.reconcile(r)
	}
	require.Equal(t, first+1, reads())
	require.Equal(t, "USD", b.company().HomeCurrency)
}

// What scans meet costs nothing more.
func TestCompany_PreferencesTellTheCurrency(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.sim.Create(b.realm, "Preferences", map[string]any{"CurrencyPrefs": map[string]any{"HomeCurrency": map[string]any{"value": "EUR"}}})
	require.NoError(t, err)
	b.clock.Advance(time.Hour)
	b.reconcile(b.reconciler())
	require.Equal(t, "EUR", b.company().HomeCurrency)
	require.Empty(t, b.company().Name, "no call was made for it")
}

// A company that cannot be read costs its one call a week, and no scan.
func TestCompany_ThatIsRefusedFailsNoScan(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.config.RefreshCompany = 7 * 24 * time.Hour
	var refused atomic.Int64
	b.between(func(w http.ResponseWriter, r *http.Request, quickbooks http.Handler) {
		if strings.Contains(r.URL.Path, "/companyinfo/") {
			refused.Add(1)
			w.WriteHeader(http.StatusForbidden)
			return
		}
		quickbooks.ServeHTTP(w, r)
	})
	r := b.reconciler()
	for range 4 {
		b.reconcile(r)
		b.clock.Advance(24 * time.Hour)
	}
	require.EqualValues(t, 1, refused.Load())
	require.Empty(t, b.company().Name)
	require.False(t, b.company().Asked.IsZero())
}
