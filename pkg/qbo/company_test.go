package qbo_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

func TestParseCompanyInfo(t *testing.T) {
	for name, tc := range map[string]struct {
		raw  string
		want qbo.CompanyInfo
	}{
		"as in Intuit's reference": {
			`{"CompanyName":"Larry's Bakery","LegalName":"Larry's Bakery Inc","Country":"US","FiscalYearStartMonth":"January","MetaData":{"CreateTime":"2015-06-05T13:55:54-07:00","LastUpdatedTime":"2015-07-06T08:51:50-08:00"}}`,
			qbo.CompanyInfo{Name: "Larry's Bakery", LegalName: "Larry's Bakery Inc", Country: "US", FiscalYearStart: "January", TimeZoneOffset: "-08:00"},
		},
		"country in the address, UTC": {
			`{"CompanyName":"A","CompanyAddr":{"Country":"FR"},"MetaData":{"LastUpdatedTime":"2026-01-01T00:00:00Z"}}`,
			qbo.CompanyInfo{Name: "A", Country: "FR"},
		},
		"nothing": {`{}`, qbo.CompanyInfo{}},
		"null":    {`{"CompanyName":null,"MetaData":null}`, qbo.CompanyInfo{}},
	} {
		got, err := qbo.ParseCompanyInfo([]byte(tc.raw))
		require.NoError(t, err, name)
		require.Equal(t, tc.want, got, name)
	}
	_, err := qbo.ParseCompanyInfo([]byte("["))
	require.ErrorIs(t, err, qbo.ErrMalformed)
}

func TestParseHomeCurrency(t *testing.T) {
	got, err := qbo.ParseHomeCurrency([]byte(`{"CurrencyPrefs":{"HomeCurrency":{"value":"EUR"},"MultiCurrencyEnabled":true}}`))
	require.NoError(t, err)
	require.Equal(t, "EUR", got)
	got, err = qbo.ParseHomeCurrency([]byte(`{"Id":"1"}`))
	require.NoError(t, err)
	require.Empty(t, got)
}

func TestParseFeatures(t *testing.T) {
	for raw, want := range map[string]qbo.Features{
		`{"CurrencyPrefs":{"MultiCurrencyEnabled":false,"HomeCurrency":{"value":"USD"}},"ProductAndServicesPrefs":{"QuantityOnHand":true},"TaxPrefs":{"UsingSalesTax":false}}`: {MultiCurrency: qbo.Off, Inventory: qbo.On, SalesTax: qbo.Off},
		`{"CurrencyPrefs":{"MultiCurrencyEnabled":"true"},"TaxPrefs":{"UsingSalesTax":null}}`:                                                                                  {MultiCurrency: qbo.On},
		`{"Id":"1"}`: {},
	} {
		got, err := qbo.ParseFeatures([]byte(raw))
		require.NoError(t, err, raw)
		require.Equal(t, want, got, raw)
	}
	_, err := qbo.ParseFeatures([]byte("["))
	require.ErrorIs(t, err, qbo.ErrMalformed)
}

func TestMayBeInventory(t *testing.T) {
	for raw, want := range map[string]bool{
		`{"Type":"Service","TrackQtyOnHand":false}`:  false,
		`{"Type":"NonInventory"}`:                    false,
		`{"Type":"Inventory","TrackQtyOnHand":true}`: true,
		`{"Type":"Bundle","TrackQtyOnHand":true}`:    true,
		`{"Id":"1"}`: true,
		`[`:          true,
	} {
		require.Equal(t, want, qbo.MayBeInventory([]byte(raw)), raw)
	}
}
