package qbo

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
)

// CompanyInfo is what a company says of itself.
type CompanyInfo struct {
	Name      string
	LegalName string
	// Country is a code such as US.
	Country string
	// FiscalYearStart is the first month, as January.
	FiscalYearStart string
	// TimeZoneOffset is that of the times in the record, as -08:00; empty in UTC without one.
	TimeZoneOffset string
}

var offset = regexp.MustCompile(`[+-]\d{2}:\d{2}$`)

// ParseCompanyInfo reads a record of CompanyInfo. Unknown and odd fields are left out.
func ParseCompanyInfo(raw []byte) (CompanyInfo, error) {
	var r struct {
		CompanyName, LegalName, Country, FiscalYearStartMonth text
		CompanyAddr                                           struct{ Country text }
		MetaData                                              struct{ LastUpdatedTime, CreateTime text }
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return CompanyInfo{}, fmt.Errorf("%w: CompanyInfo: %w", ErrMalformed, err)
	}
	return CompanyInfo{
		Name: string(r.CompanyName), LegalName: string(r.LegalName), FiscalYearStart: string(r.FiscalYearStartMonth),
		Country:        string(cmp.Or(r.Country, r.CompanyAddr.Country)),
		TimeZoneOffset: offset.FindString(string(cmp.Or(r.MetaData.LastUpdatedTime, r.MetaData.CreateTime))),
	}, nil
}

// ParseHomeCurrency reads the home currency of a record of Preferences, as USD; empty if
// it does not say.
func ParseHomeCurrency(raw []byte) (string, error) {
	var r struct {
		CurrencyPrefs struct {
			HomeCurrency struct {
				Value text `json:"value"`
			}
		}
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return "", fmt.Errorf("%w: Preferences: %w", ErrMalformed, err)
	}
	return string(r.CurrencyPrefs.HomeCurrency.Value), nil
}

// Switch is what Preferences say of a feature.
type Switch uint8

// What they may say. Unknown is also what cannot be read.
const (
	Unknown Switch = iota
	On
	Off
)

// UnmarshalJSON implements json.Unmarshaler.
func (s *Switch) UnmarshalJSON(raw []byte) error {
	switch string(raw) {
	case "true", `"true"`:
		*s = On
	case "false", `"false"`:
		*s = Off
	default:
		*s = Unknown
	}
	return nil
}

// Features are those that a company has switched on or off.
type Features struct{ MultiCurrency, Inventory, SalesTax Switch }

// ParseFeatures reads a record of Preferences.
func ParseFeatures(raw []byte) (Features, error) {
	var r struct {
		CurrencyPrefs           struct{ MultiCurrencyEnabled Switch }
		ProductAndServicesPrefs struct{ QuantityOnHand Switch }
		TaxPrefs                struct{ UsingSalesTax Switch }
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return Features{}, fmt.Errorf("%w: Preferences: %w", ErrMalformed, err)
	}
	return Features{MultiCurrency: r.CurrencyPrefs.MultiCurrencyEnabled, Inventory: r.ProductAndServicesPrefs.QuantityOnHand, SalesTax: r.TaxPrefs.UsingSalesTax}, nil
}

// MayBeInventory reports whether an Item is one of inventory, or does not say what it is.
func MayBeInventory(raw []byte) bool {
	var r struct {
		Type           text
		TrackQtyOnHand Switch
	}
	err := json.Unmarshal(raw, &r)
	return err != nil || r.Type == "" || r.Type == "Inventory" || r.TrackQtyOnHand == On
}
