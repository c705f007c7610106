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
