package qbosim_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

// says is what a company says of itself.
func (b *bundle) says() (features qbo.Features, country string) {
	b.Helper()
	for ref, truth := range b.Truth(realm) {
		switch ref.Entity {
		case "Preferences":
			var err error
			features, err = qbo.ParseFeatures(truth.Raw)
			require.NoError(b, err)
		case "CompanyInfo":
			var info struct{ Country string }
			require.NoError(b, json.Unmarshal(truth.Raw, &info))
			country = info.Country
		}
	}
	return features, country
}

func TestCreate_ACompanySaysWhatItUses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create("CompanyInfo", nil)
	b.create("Preferences", nil)
	features, country := b.says()
	require.Equal(t, qbo.Features{MultiCurrency: qbo.Off, Inventory: qbo.Off, SalesTax: qbo.Off}, features)
	require.Equal(t, "US", country)

	// Its first record of a kind switches the feature on.
	for _, name := range []string{"ExchangeRate", "InventoryAdjustment", "TaxRate", "JournalCode"} {
		b.create(name, nil)
	}
	features, country = b.says()
	require.Equal(t, qbo.Features{MultiCurrency: qbo.On, Inventory: qbo.On, SalesTax: qbo.On}, features)
	require.Equal(t, "FR", country)
}

func TestPopulate_SaysWhatTheCompanyUses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.Populate(realm)
	require.NoError(t, err)
	features, country := b.says()
	require.Equal(t, qbo.Features{MultiCurrency: qbo.On, Inventory: qbo.On, SalesTax: qbo.On}, features)
	require.Equal(t, "FR", country)
}
