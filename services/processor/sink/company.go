package sink

import "time"

// Company is what is known of a company, as a sink keeps it. An empty text is not known.
type Company struct {
	Realm           string
	Name            string
	LegalName       string
	Country         string
	HomeCurrency    string
	FiscalYearStart string
	TimeZoneOffset  string
	ReadAt          time.Time
}
